"""How long a prefill takes, alone on an engine: asked of its cost model once for prompts of about a size."""

from __future__ import annotations

from collections.abc import Iterable

from coxswain_scheduler.costs.timing import Timing, Work
from coxswain_scheduler.policies.interface import Engine
from coxswain_scheduler.prefilling.seat import Seat

GRAIN_BITS, START_BITS = 6, 12
"""Prompts whose uncached lengths differ by less than 64 tokens, and cached ones by 4,096, count as equal."""


class Durations:
    """Seconds of prefills by kind of engine. Engines are of one kind when they share a cost model."""

    def __init__(self) -> None:
        self._kinds: dict[Timing, dict[int, float]] = {}
        self._samples: dict[int, Seat] = {}
        """A seat of each kind."""

    @property
    def alike(self) -> bool:
        """Whether all seats are of one kind."""
        return len(self._samples) == 1

    def seat(self, engine: Engine) -> Seat:
        """A new seat, with those of its kind."""
        seat = Seat(engine, self._kinds.setdefault(engine.timing, {}))
        self._samples[id(seat.kind)] = seat
        return seat

    def drop(self, gone: Seat, others: Iterable[Seat]) -> None:
        """A seat is gone; these are left."""
        if self._samples[id(gone.kind)] is gone:
            self._samples = {id(seat.kind): seat for seat in others}

    def seconds(self, seat: Seat, uncached: int, cached: int) -> float:
        """Of a prefill of so many tokens behind so many cached ones."""
        key = uncached >> GRAIN_BITS | cached >> START_BITS << 20
        seconds = seat.kind.get(key)
        if seconds is None:
            seconds = seat.kind[key] = _ask(seat.engine, uncached, cached)
        return seconds

    def least(self, tokens: int) -> float:
        """Of a prompt that is nowhere cached, where that takes least."""
        return min((self.seconds(seat, tokens, 0) for seat in self._samples.values()), default=0.0)

    def relearn(self) -> None:
        """Engines' cost models have learnt: ask them anew."""
        for timing, seconds in self._kinds.items():
            if hasattr(timing, "learn"):
                seconds.clear()


def _ask(engine: Engine, uncached: int, cached: int) -> float:
    timing, budget = engine.timing, engine.step_tokens
    seconds, done = 0.0, 0
    while done < uncached:
        count = min(budget, uncached - done)
        start = cached + done
        seconds += timing.seconds(Work(count, count * start + count * (count + 1) // 2))
        done += count
    return seconds
