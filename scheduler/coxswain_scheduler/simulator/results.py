"""What came of a simulated run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.simulator.gaps import Gaps


class Outcome(NamedTuple):
    """What a client of one request saw. Times in seconds of virtual time."""

    id: int
    arrival: float
    prompt_tokens: int
    output_tokens: int
    """Of the whole answer."""
    emitted: int
    """Of them, those that came."""
    priority: int
    tenant: str
    workflow: str
    cached: int
    """Prompt tokens found in the prefix cache when it was first admitted."""
    first_token: float | None
    ended: float | None
    shed: str | None
    """Why it was refused."""
    failed: str | None
    """Why its answer broke off."""
    moves: int
    deadline: float | None

    @property
    def ttft(self) -> float | None:
        """From arrival to the first token."""
        return None if self.first_token is None else self.first_token - self.arrival

    @property
    def inter_token(self) -> float | None:
        """Mean time between tokens; None where there is at most one, or the answer did not end."""
        if self.ended is None or self.first_token is None or self.output_tokens < 2:
            return None
        return (self.ended - self.first_token) / (self.output_tokens - 1)

    @property
    def end_to_end(self) -> float | None:
        """From arrival to the last token."""
        return None if self.ended is None else self.ended - self.arrival

    def good(self, objectives: Objectives) -> bool:
        """Whether it was answered whole, within both objectives, and by its deadline where it has one."""
        if self.ended is None or self.ttft is None or self.ttft > objectives.ttft:
            return False
        if self.deadline is not None and self.ended > self.deadline:
            return False
        return self.inter_token is None or self.inter_token <= objectives.inter_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run."""

    outcomes: tuple[Outcome, ...] = field(repr=False)
    """In order of the trace."""
    objectives: Objectives
    gaps: Gaps = field(repr=False)
    moves: int
    role_changes: int
    preemptions: int
    engine_seconds: float
    """Of all engines, from the moment each was asked for."""
    gpu_seconds: float
    virtual_s: float
    cpu_s: float
    """Thread CPU seconds of the run itself; building the trace is not in it."""
    load: tuple[tuple[float, int, int, int], ...] = field(repr=False, default=())
    """(seconds, engines, sequences running, sequences waiting or held) over time."""

    @property
    def good(self) -> int:
        """Requests answered within the objectives."""
        return sum(outcome.good(self.objectives) for outcome in self.outcomes)

    @property
    def shed(self) -> int:
        """Requests refused."""
        return sum(outcome.shed is not None for outcome in self.outcomes)

    @property
    def prefix_reuse(self) -> float:
        """Share of all prompt tokens, those of shed requests too, that were not computed when first admitted."""
        prompts = sum(outcome.prompt_tokens for outcome in self.outcomes)
        return sum(outcome.cached for outcome in self.outcomes) / prompts if prompts else 0.0

    def values(self, what: Callable[[Outcome], float | None]) -> list[float]:
        """One figure of every outcome that has it, ascending."""
        return sorted(value for outcome in self.outcomes if (value := what(outcome)) is not None)


def quantile(ascending: list[float], q: float) -> float | None:
    """The value at rank q·(n-1), interpolated; None without values."""
    if not ascending:
        return None
    place = q * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (ascending[high] - ascending[low]) * (place - low)


def quantiles(ascending: list[float], shares: Iterable[float] = (0.5, 0.9, 0.99)) -> dict[str, float | None]:
    """By name: p50, p90, p99."""
    return {f"p{share * 100:g}": quantile(ascending, share) for share in shares}
