"""One service at one moment: everything that its conditions are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coxswain_crds.llm_service import Objectives
from coxswain_crds.validation import FieldError
from coxswain_operator.cluster.failures import Failure
from coxswain_operator.cluster.records import PodRecord
from coxswain_operator.judging.plan import Fate
from coxswain_operator.observing.view import View

Object = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """A replica Pod and what became of it."""

    pod: PodRecord
    fate: Fate
    current: bool
    ready: bool
    """Gateways send requests to it; where nobody can be asked, the kubelet says that it is ready."""


@dataclass(frozen=True)
class Situation:
    """Input of `conditions.judge`. Times are seconds since the epoch."""

    generation: int
    """Of the object, which may not be the one that is acted on."""
    acting_generation: int
    """Of the spec that runs: the last accepted one; 0 when none is known."""
    errors: Sequence[FieldError]
    wanted: int
    objectives: Objectives
    standings: Sequence[Standing]
    gateways_wanted: int
    gateways_ready: int
    coordinator_ready: bool
    view: View | None
    """None: not asked yet, so what was said before stands."""
    all_nodes_down: bool
    refusal: Failure | None
    """What the API server said when a Pod could not even be made."""
    previous: Mapping[str, Object] = field(default_factory=dict)
    """Conditions as they stand in the status, by type."""

    def live(self) -> list[Standing]:
        """Pods that are neither lost, failed nor leaving."""
        return [s for s in self.standings if s.fate is Fate.LIVE]

    def current(self) -> list[Standing]:
        """Live Pods of the spec that is acted on."""
        return [s for s in self.live() if s.current]

    def ready(self) -> list[Standing]:
        """Current Pods that take requests."""
        return [s for s in self.current() if s.ready]

    def lost(self) -> list[Standing]:
        """Pods that died, or whose node did."""
        return [s for s in self.standings if s.fate in (Fate.LOST, Fate.FAILED)]

    def leaving(self) -> list[Standing]:
        """Pods that are being deleted."""
        return [s for s in self.standings if s.fate is Fate.LEAVING]

    def failure(self) -> Failure | None:
        """What keeps a replica of the current spec from starting; None when nothing does."""
        failures = [s.pod.failure for s in self.current() if s.pod.failure and not s.ready]
        return self.refusal or next(iter(failures), None)

    def was(self, condition: str) -> str:
        """The status of a condition as it was last written: True, False, Unknown, or empty."""
        return str(self.previous.get(condition, {}).get("status", ""))
