"""What an autoscaler is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from coxswain_scheduler.autoscaling.capacity import Capacity
from coxswain_scheduler.autoscaling.counts import Counts
from coxswain_scheduler.interface import Objectives


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What the user asked for."""

    objectives: Objectives
    attainment: float = 0.99
    """Share of the requests that shall meet them."""
    startup_seconds: float = 180.0
    """From asking for an engine until it serves."""
    split: bool = False
    """Separate engines for prefill and decode."""
    minimum: int = 1
    maximum: int = 1024
    idle_after_seconds: float | None = None
    """No engine at all after so long without a request; None never goes to zero."""

    def __post_init__(self) -> None:
        if not 0.0 < self.attainment < 1.0:
            raise ValueError(f"attainment is {self.attainment}; it must lie between 0 and 1")
        if self.startup_seconds < 0:
            raise ValueError(f"startup_seconds is {self.startup_seconds}; it must not be negative")
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(f"minimum is {self.minimum} and maximum {self.maximum}; 1 <= minimum <= maximum must hold")
        if self.split and self.maximum < 2:
            raise ValueError("maximum is 1; a split service needs at least two engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Counts to have, and why."""

    counts: Counts
    now: float
    sequences: float
    """In flight now, had all been started at once on engines at capacity."""
    forecast: float
    """When an engine asked for now is ready."""
    headroom: float
    slowness: float
    """How much slower engines are than the cost model says, beyond what is tolerated; at least 1."""
    pressure: float
    """Share added, instead of the headroom where it is more, while too many requests miss their objectives."""
    capacity: Capacity
    rule: str

    def explain(self) -> str:
        """One line."""
        return (
            f"{self.now:.0f} s: {self.counts}, {self.rule}: {self.sequences:.0f} sequences now, {self.forecast:.0f}"
            f" forecast x {max(self.headroom, 1 + self.pressure):.2f} (headroom {self.headroom:.2f}, pressure"
            f" {1 + self.pressure:.2f}) x {self.slowness:.2f} slowness, {self.capacity.sequences:.1f} per engine"
            f" at {1000 * self.capacity.token_seconds:.1f} ms a token"
        )
