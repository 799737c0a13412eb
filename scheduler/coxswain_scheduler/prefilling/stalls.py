"""When the decodes of an engine can afford a stall: what their steps take less than they may is saved up for it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from coxswain_scheduler.interface import Engine
from coxswain_scheduler.prefilling.seat import Seat

FULL_SECONDS: Final = 1.0
"""After which an engine without room, or without time to spare, is taken to have some."""
_LEAST_EARNED: Final = 1e-3


class Stalls:
    """The credit of seats."""

    def __init__(self, *, most: float, target: float, spare: Callable[[Engine], int]) -> None:
        """`most`: seconds of stalls that can be saved up; `target`: seconds that a step and its share of the stalls may
        take; `spare`: blocks that an engine's decodes will not need."""
        self._most = most
        self._target = target
        self._spare = spare

    def look(self, seat: Seat, now: float) -> None:
        """See what decodes there."""
        engine, since = seat.engine, seat.looked
        seat.looked = now
        seat.decoding = decoding = engine.decoding
        if not decoding:
            seat.credit, seat.earned, seat.step, seat.used = self._most, 0.0, 0.0, 0.0
            return
        seat.step = engine.timing.decode_seconds(decoding, engine.context, 1)
        seat.earned = max(_LEAST_EARNED, 1.0 - seat.step / self._target)
        seat.credit = min(self._most, seat.credit + (now - since) * seat.earned)
        seat.blocks = self._spare(engine)
        seat.used = 1.0 - engine.free_blocks / engine.total_blocks

    def room(self, seat: Seat, now: float) -> float:
        """Tokens of a prompt for which there is room; infinite beside no decodes."""
        self.look(seat, now)
        return seat.blocks * seat.block_size if seat.decoding else inf

    def earn(self, seat: Seat, now: float) -> None:
        """Let the time since the last look count, where something decodes."""
        credit = seat.credit + (now - seat.looked) * seat.earned
        seat.credit = credit if credit < self._most else self._most
        seat.looked = now

    def start(self, seat: Seat, tokens: int, seconds: float, now: float) -> float:
        """When a prefill of so many tokens and seconds can begin."""
        if not seat.earned:
            return seat.free_at
        if seat.blocks * seat.block_size < tokens:
            return now + FULL_SECONDS
        lacking = (seconds if seconds < self._most else self._most) - seat.credit
        if lacking <= 0:
            return seat.free_at
        return max(now, seat.free_at) + min(FULL_SECONDS, lacking / seat.earned)

    def rested_at(self, seat: Seat, now: float) -> float:
        """When it is free with time to spare for any prefill, or at a next look."""
        ready_at = seat.free_at
        if seat.earned:
            lacking = self._most - seat.credit
            if lacking > 0:
                ready_at = max(now, ready_at) + min(FULL_SECONDS, lacking / seat.earned)
            if seat.blocks <= 0:
                ready_at = max(ready_at, now + FULL_SECONDS)
        return ready_at
