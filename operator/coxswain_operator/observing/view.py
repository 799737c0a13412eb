"""What the data plane says of a service: the last answers of its coordinator and gateways, cut down to what decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from coxswain_crds import durations
from coxswain_operator.observing.measured import Latencies
from coxswain_protocol.status import MemberState

TOKEN_LATELY_SECONDS = 60.0


class Hearing(Enum):
    """What the gateways that answer say of a replica."""

    BEATING = "beating"
    SILENT = "silent"
    """Heard before, not any more."""
    UNKNOWN = "unknown"
    """Never heard, or nobody answers."""


@dataclass(frozen=True)
class Member:
    """One replica, all gateways merged."""

    state: MemberState
    weights_digest: str = ""
    exact: bool = False
    step_floor_seconds: float = 0.0
    token_lately: bool = False
    """A token came from it within the last minute."""


@dataclass(frozen=True)
class View:
    """One poll. `answered` is False when no gateway's word could be had, directly or through the coordinator."""

    answered: bool
    coordinator: bool = False
    members: Mapping[str, Member] = field(default_factory=dict)
    heard: frozenset[str] = frozenset()
    """Every replica that was ever heard since the operator started."""
    departures: tuple[str, ...] = ()
    canary_error: str = ""
    draining: frozenset[str] = frozenset()
    ttft: Latencies | None = None
    inter_token: Latencies | None = None

    def essence(self) -> tuple[object, ...]:
        """What a service must be looked at again for. The order of departure and latencies change all the time."""
        return self.answered, self.coordinator, self.members, self.canary_error, self.draining

    def hearing(self, replica: str) -> Hearing:
        """Whether gateways hear a replica."""
        member = self.members.get(replica)
        if member is not None:
            return Hearing.SILENT if member.state == "Lost" else Hearing.BEATING
        return Hearing.SILENT if self.answered and replica in self.heard else Hearing.UNKNOWN

    def is_ready(self, replica: str) -> bool:
        """Whether gateways send requests to a replica."""
        member = self.members.get(replica)
        return member is not None and member.state == "Ready"

    def step_floor_seconds(self) -> float | None:
        """The fastest measured engine step among the replicas; None before one was measured."""
        floors = [m.step_floor_seconds for m in self.members.values() if m.step_floor_seconds > 0]
        return min(floors, default=None)


def step_floor_seconds(view: View | None, status: Mapping[str, Any]) -> float | None:
    """The fastest measured engine step of a service: of its replicas, else as its status keeps it; None if unknown."""
    floor = view.step_floor_seconds() if view else None
    text = (status.get("measured") or {}).get("stepFloor") or ""
    try:
        return floor or durations.seconds(text)
    except ValueError:
        return None


UNKNOWN = View(answered=False)
"""Before the first poll."""
