"""Room for a prompt that finds none: one engine is kept for it, and others make room there."""

from __future__ import annotations

from collections.abc import Iterable

from coxswain_scheduler.prefilling.seat import Seat
from coxswain_scheduler.queueing import Job


class Clearing:
    """The prompt for which room is made, and where; one at a time."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self.seat: Seat | None = None
        """Where room is made."""

    def begin(self, job: Job, seats: Iterable[Seat], now: float) -> None:
        """Have room made where the most is spare, if no seat has enough, as of now."""
        if self._job is not None:
            return
        seats, tokens = list(seats), job.tokens
        if not seats or any(s.blocks * s.block_size >= tokens or s.looked != now for s in seats):
            return
        most = max(seats, key=lambda seat: seat.blocks)
        if most.engine.total_blocks * most.block_size >= tokens:
            self._job, self.seat = job, most

    def release(self, job: Job) -> None:
        """It waits no more."""
        if self._job is job:
            self._job = self.seat = None

    def drop(self, engine: int) -> None:
        """An engine is gone."""
        if self.seat is not None and self.seat.id == engine:
            self._job = self.seat = None

    def is_for(self, job: Job) -> bool:
        """Whether the room is made for this one."""
        return self._job is job

    @property
    def wanted(self) -> tuple[int, int] | None:
        """The engine, and the blocks that are wanted there."""
        if self._job is None or self.seat is None:
            return None
        return self.seat.id, -(-self._job.tokens // self.seat.block_size)
