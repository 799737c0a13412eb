"""Prefilled here, decoded there: the KV of a request that was on hold travels to where it was placed.

The target gives it blocks as it admits any other sequence. Only what the target does not hold is sent, from then on;
the source keeps its blocks until it is there. Where the source dies before that, the target computes the prompt anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coxswain_scheduler.simulator.request import SimRequest, SimSequence

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine
    from coxswain_scheduler.simulator.simulation import Simulation


class Handovers:
    """Those under way."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._sources: dict[SimSequence, tuple[SimEngine, SimSequence]] = {}

    def begin(self, request: SimRequest, target: SimEngine) -> None:
        """Queue a request that is on hold in another engine. Of a prompt of one token there is nothing to send."""
        source, original = request.at, request.sequence
        assert source is not None and original is not None
        copy = SimSequence(request, block_size=target.block_size, rank=original.rank)
        copy.length = original.length
        copy.arriving = original.length - 1
        copy.received = True
        request.at, request.sequence = target, copy
        self._sources[copy] = (source, original)
        if not copy.arriving:
            self.release(copy)
        target.batcher.add(copy)
        target.cut()

    def fetch(self, target: SimEngine, sequence: SimSequence) -> bool:
        """`sequence` has been given blocks: have its KV come. True where it decodes in this very step."""
        source, _ = self._sources[sequence]
        sequence.aside = "Arriving"
        if source.silent:
            self._compute_anew(target, sequence)
            return False
        calendar = self._simulation.calendar
        missing = sequence.arriving - (sequence.cached or 0)
        there = self._simulation.links.send(source.id, target.id, missing, calendar.now)
        if there > calendar.now:
            calendar.at(there, self._arrive, (target, sequence))
            return False
        self.release(sequence)
        return target.resume(sequence)

    def release(self, sequence: SimSequence) -> None:
        """It has its KV, or does not want it any more: the source lets go of it."""
        if (found := self._sources.pop(sequence, None)) is not None:
            source, original = found
            source.batcher.remove(original.id)
            source.cut()
            self._simulation.fleet.leave_if_empty(source)

    def _arrive(self, argument: tuple[SimEngine, SimSequence]) -> None:
        target, sequence = argument
        if sequence in self._sources:
            target.between_steps(lambda: self._take_over(target, sequence))

    def _take_over(self, target: SimEngine, sequence: SimSequence) -> None:
        if sequence not in self._sources:
            return
        if self._sources[sequence][0].silent:
            self._compute_anew(target, sequence)
        else:
            self.release(sequence)
            target.resume(sequence)
        target.cut()

    def _compute_anew(self, target: SimEngine, sequence: SimSequence) -> None:
        self.release(sequence)
        target.batcher.remove(sequence.id)
        sequence.arriving = 0
        sequence.received = False
        sequence.aside = None
        target.batcher.add(sequence)
        target.calendar.start_soon(target)
