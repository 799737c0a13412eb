"""Live migration: a decoding request's KV is copied while it decodes, in stages, each taking what the one before left.

The last stage is taken between two steps, and the request stands still meanwhile (Llumnix, OSDI'24, with its limits of
three stages and sixteen last blocks). It is given up when the request ends, is preempted, paused or taken back, when
the target has no blocks for it, or when either engine dies; the request then goes on where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coxswain_scheduler.simulator.request import SimRequest, SimSequence

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine
    from coxswain_scheduler.simulator.simulation import Simulation

MAX_STAGES: Final = 3
LAST_STAGE_BLOCKS: Final = 16


class Migration:
    """One decoding request on its way to another engine."""

    def __init__(self, simulation: Simulation, request: SimRequest, target: SimEngine) -> None:
        assert request.at is not None and request.sequence is not None
        self._simulation = simulation
        self._request = request
        self._source, self._sequence = request.at, request.sequence
        self._target = target
        self._copy = SimSequence(request, block_size=target.block_size, rank=request.sequence.rank)
        self._sent = 0
        self._stage = 0
        self._over = False
        self._halted = False

    def involves(self, engine: SimEngine) -> bool:
        """Whether it is from or to `engine`."""
        return engine in (self._source, self._target)

    def begin(self) -> None:
        """Ask the target for blocks, which it gives or refuses between two steps."""
        self._simulation.migrations[self._request.id] = self
        self._target.between_steps(self._reserve)

    def abandon(self) -> None:
        """Have the target let go; the request goes on where it is."""
        if self._over:
            return
        self._over = True
        del self._simulation.migrations[self._request.id]
        self._target.batcher.remove(self._copy.id)
        self._target.cut()
        self._simulation.fleet.leave_if_empty(self._target)
        if self._halted:
            self._source.between_steps(self._go_on)

    def _go_on(self) -> None:
        if self._sequence.id in self._source.batcher.aside and self._request.sequence is self._sequence:
            self._source.resume(self._sequence)
            self._source.cut()

    def _reserve(self) -> None:
        if self._over:
            return
        self._source.settle()
        self._copy.length = self._sequence.length
        self._copy.arriving = self._sequence.computed
        self._copy.name_as(self._sequence)
        if not self._possible() or not self._target.batcher.reserve(self._copy):
            self.abandon()
            return
        self._copy.aside = "Arriving"
        self._send(self._copy.arriving - (self._copy.cached or 0))
        self._sent = self._copy.arriving

    def _possible(self) -> bool:
        return self._sequence.decodes and not self._source.silent and not self._target.leaving

    def _send(self, tokens: int) -> None:
        self._stage += 1
        calendar = self._simulation.calendar
        there = self._simulation.links.send(self._source.id, self._target.id, tokens, calendar.now)
        calendar.at(there, self._stage_over)

    def _stage_over(self, _: object) -> None:
        if self._over:
            return
        if self._source.silent or self._target.silent:
            self.abandon()
            return
        self._source.settle()
        left = self._sequence.computed - self._sent
        if left <= LAST_STAGE_BLOCKS * self._sequence.block_size:
            self._source.between_steps(self._last_stage)
        elif self._stage < MAX_STAGES:
            self._send(left)
            self._sent += left
        else:
            self.abandon()

    def _last_stage(self) -> None:
        if self._over:
            return
        if not self._sequence.decodes:
            self.abandon()
            return
        self._source.halt(self._sequence)
        self._halted = True
        self._sequence.aside = "Leaving"
        calendar, links = self._simulation.calendar, self._simulation.links
        left = self._sequence.computed - self._sent
        there = links.send(self._source.id, self._target.id, left, calendar.now)
        calendar.at(there, lambda _: self._target.between_steps(self._commit))

    def _commit(self) -> None:
        if self._over:
            return
        copy, target, source = self._copy, self._target, self._source
        copy.length = self._sequence.length
        if source.silent or target.silent or not target.batcher.extend(copy):
            self.abandon()
            return
        copy.computed = self._sequence.computed
        self._over = True
        del self._simulation.migrations[self._request.id]
        self._request.at, self._request.sequence = target, copy
        self._request.moves += 1
        self._simulation.moves += 1
        target.resume(copy)
        target.cut()
        source.batcher.remove(self._sequence.id)
        source.cut()
        self._simulation.fleet.leave_if_empty(source)
