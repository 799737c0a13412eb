"""Room for prompts that find none: engines are kept for them, and what decodes there makes room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coxswain_scheduler.prefilling.seat import Seat
from coxswain_scheduler.queueing import Job

_OF_SEATS: Final = 8
"""Of so many engines one at most is kept, though always one: kept room is idle."""


class Clearing:
    """The prompts for which room is made, and where."""

    def __init__(self) -> None:
        self.kept: dict[int, Job] = {}
        """By engine, for whom others leave it room."""
        self._seats: dict[int, Seat] = {}

    def begin(self, job: Job, seats: Sequence[Seat], now: float) -> None:
        """Have room made where the most is spare, if no seat has enough, as of now."""
        tokens = job.tokens
        if len(self.kept) >= max(1, len(seats) // _OF_SEATS) or any(each is job for each in self.kept.values()):
            return
        free = [seat for seat in seats if seat.id not in self.kept]
        if not free or any(seat.blocks * seat.block_size >= tokens or seat.looked != now for seat in free):
            return
        most = max(free, key=lambda seat: seat.blocks)
        if most.engine.total_blocks * most.block_size >= tokens:
            self.kept[most.id], self._seats[most.id] = job, most

    def release(self, job: Job) -> None:
        """It waits no more."""
        for engine in [engine for engine, each in self.kept.items() if each is job]:
            self.drop(engine)

    def drop(self, engine: int) -> None:
        """An engine is not kept any more."""
        self.kept.pop(engine, None)
        self._seats.pop(engine, None)

    @property
    def wanted(self) -> dict[int, int]:
        """The blocks that are wanted, by engine."""
        return {engine: -(-job.tokens // self._seats[engine].block_size) for engine, job in self.kept.items()}
