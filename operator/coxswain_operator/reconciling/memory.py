"""What the operator remembers of a service between two passes. All of it may be lost: it is read or made again."""

from __future__ import annotations

from dataclasses import dataclass, field

from coxswain_crds.validation import FieldError
from coxswain_operator.cluster.failures import Failure
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.reconciling.homeless import Homeless
from coxswain_operator.reconciling.pauses import Pauses


@dataclass(frozen=True)
class Acting:
    """The spec that is acted on: the last one that was accepted."""

    owner: Owner
    generation: int
    children: tuple[tuple[str, str, str], ...]
    """Kind, name and digest of everything to apply, so that nothing is built to find that nothing changed."""
    template: str
    """Digest of the replica Pods."""


@dataclass
class Memory:
    """Of one service."""

    checked: tuple[object, ...] = ()
    """What the last validation looked at; the same again has the same result."""
    errors: list[FieldError] = field(default_factory=list)
    acting: Acting | None = None
    taken: list[FieldError] = field(default_factory=list)
    """Names of ours that somebody else's objects have."""
    confirmed: dict[tuple[str, str], int] = field(default_factory=dict)
    """State of each applied object when it was last known to be as wanted."""
    secret: dict[str, str] = field(default_factory=dict)
    incarnations: dict[int, int] = field(default_factory=dict)
    pauses: Pauses[int] = field(default_factory=Pauses)
    homeless: Homeless = field(default_factory=Homeless)
    refusal: Failure | None = None
    """Why the last Pod could not be made."""
    trouble: Failure | None = None
    """Why one of the other objects could not be applied."""
    decision: str | None = None
