"""How long a prefill takes, alone on an engine: asked of its cost model once for prompts of about a size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coxswain_scheduler.costs.timing import Timing, Work
from coxswain_scheduler.interface import Engine
from coxswain_scheduler.prefilling.seat import Seat

_GRAIN_BITS: Final = 6
_START_BITS: Final = 12
"""Prompts whose uncached lengths differ by less than 64 tokens, and cached ones by 4,096, count as equal."""
_PROBES = ((256, 0), (4096, 0), (4096, 60_000))
_DRIFT: Final = 0.005
"""Share by which what a cost model says of such prefills (tokens, and cached ones before) may change before what it
said of others is forgotten."""


class Durations:
    """Seconds of prefills by kind of engine. Engines are of one kind when they share a cost model."""

    def __init__(self) -> None:
        self.alike = False
        """Whether all seats are of one kind."""
        self._kinds: dict[Timing, dict[int, float]] = {}
        self._samples: dict[int, Seat] = {}
        """A seat of each kind."""
        self._said: dict[Timing, list[float]] = {}
        """What models that learn said of the probes when all was forgotten."""
        self._kind: dict[int, float] | None = None
        self._key, self._seconds = 0, 0.0
        """What was asked for last: it is asked of one seat after the other."""

    def seat(self, engine: Engine) -> Seat:
        """A new seat, with those of its kind."""
        seat = Seat(engine, self._kinds.setdefault(engine.timing, {}))
        self._samples[id(seat.kind)] = seat
        self.alike = len(self._samples) == 1
        return seat

    def drop(self, gone: Seat, others: Iterable[Seat]) -> None:
        """A seat is gone; these are left."""
        if self._samples[id(gone.kind)] is gone:
            self._samples = {id(seat.kind): seat for seat in others}
            self.alike = len(self._samples) == 1

    def seconds(self, seat: Seat, uncached: int, cached: int) -> float:
        """Of a prefill of so many tokens behind so many cached ones."""
        key = uncached >> _GRAIN_BITS | cached >> _START_BITS << 20
        if key != self._key or seat.kind is not self._kind:
            seconds = seat.kind.get(key)
            if seconds is None:
                seconds = seat.kind[key] = _ask(seat.engine, uncached, cached)
            self._kind, self._key, self._seconds = seat.kind, key, seconds
        return self._seconds

    def least(self, uncached: int, cached: int = 0) -> float:
        """The same where that takes least; 0 without seats."""
        least = 0.0
        for seat in self._samples.values():
            seconds = self.seconds(seat, uncached, cached)
            if seconds < least or not least:
                least = seconds
        return least

    def relearn(self) -> None:
        """Forget what cost models have learnt to say otherwise."""
        for seat in self._samples.values():
            if hasattr(seat.engine.timing, "learn") and self._has_changed(seat.engine):
                seat.kind.clear()
                self._kind = None

    def _has_changed(self, engine: Engine) -> bool:
        said = self._said.get(engine.timing)
        says = [_ask(engine, uncached, cached) for uncached, cached in _PROBES]
        if said is not None and all(abs(a - b) <= _DRIFT * b for a, b in zip(says, said, strict=True)):
            return False
        self._said[engine.timing] = says
        return True


def _ask(engine: Engine, uncached: int, cached: int) -> float:
    timing, budget = engine.timing, engine.step_tokens
    seconds, done = 0.0, 0
    while done < uncached:
        count = min(budget, uncached - done)
        start = cached + done
        seconds += timing.seconds(Work(count, count * start + count * (count + 1) // 2))
        done += count
    return seconds
