"""KV on its way between engines: hand-over after a prefill, and live migration while decoding.

A transfer has the sender's and the receiver's side of the network for itself and waits for both, first come, first
served. Migration copies while the source decodes, in stages, each taking what the one before left to do; the last one
is taken at a step boundary (Llumnix, OSDI'24, with its limits of three stages and sixteen last blocks).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from coxswain_scheduler.simulator.request import SimRequest, SimSequence
from coxswain_scheduler.simulator.setup import Setup

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine
    from coxswain_scheduler.simulator.simulation import Simulation

MAX_STAGES = 3
LAST_STAGE_BLOCKS = 16


class Links:
    """Who sends what to whom, and when it is there."""

    def __init__(self, setup: Setup) -> None:
        link = setup.link_bytes_per_second
        self._per_token = setup.kv_bytes_per_token / link if link else math.inf
        self._latency = setup.link_latency_seconds
        self._out: dict[int, float] = {}
        self._in: dict[int, float] = {}
        self._sources: dict[SimSequence, tuple[SimEngine, SimSequence]] = {}

    @property
    def free(self) -> bool:
        """Whether transfers take no time at all."""
        return not self._per_token and not self._latency

    def bring(self, sequence: SimSequence, source: SimEngine, original: SimSequence) -> None:
        """`sequence` will need the KV of `original`, which stays where it is until then."""
        self._sources[sequence] = (source, original)

    def fetch(self, target: SimEngine, sequence: SimSequence, now: float) -> float:
        """When the KV that `sequence` lacks is there, if it sets out as soon as it can."""
        source, _ = self._sources[sequence]
        return self.send(source.id, target.id, sequence.arriving - (sequence.cached or 0), now)

    def send(self, source: int, target: int, tokens: int, now: float) -> float:
        """When `tokens` tokens of KV sent now are there."""
        if self.free or tokens <= 0:
            return now
        begins = max(now, self._out.get(source, 0.0), self._in.get(target, 0.0))
        ends = begins + tokens * self._per_token + self._latency
        self._out[source] = self._in[target] = ends
        return ends

    def seconds(self, tokens: int) -> float:
        """Of a transfer that waits for nobody."""
        return 0.0 if self.free else tokens * self._per_token + self._latency

    def release(self, sequence: SimSequence) -> None:
        """It has its KV, or does not want it any more: the source lets go of it."""
        if (found := self._sources.pop(sequence, None)) is not None:
            source, original = found
            source.batcher.remove(original.id)
            source.cut()


class Migration:
    """One running request on its way to another engine."""

    def __init__(self, simulation: Simulation, request: SimRequest, target: SimEngine) -> None:
        self._simulation = simulation
        self._request = request
        assert request.at is not None and request.sequence is not None
        self._source = request.at
        self._sequence = request.sequence
        self._target = target
        self._copy = SimSequence(request, block_size=target.spec.block_size, rank=request.sequence.rank)
        self._sent = 0
        self._stage = 0

    def begin(self) -> None:
        """Ask the target for blocks; a request that only waits goes at once."""
        if self._sequence.ends_at_step < 0:
            if self._sequence in self._source.batcher.waiting:
                self._go_waiting()
            return
        self._simulation.migrations[self._request.id] = self
        self._source._settle_run()
        self._sequence_state(self._copy)
        self._target.batcher.add(self._copy)
        self._target.cut()

    def admitted(self, copy: SimSequence) -> bool:
        """The target has blocks for it: the first stage sets out."""
        if copy is not self._copy:
            return False
        self._stage_out(copy.arriving)
        return False

    def abandon(self) -> None:
        """It ended, was preempted or taken back meanwhile: the target lets go."""
        if self._simulation.migrations.pop(self._request.id, None) is not None:
            self._target.batcher.remove(self._copy.id)
            if self._request.sequence is not self._copy and self._sequence.id in self._source.batcher.aside:
                self._source.batcher.resume(self._sequence.id)
                self._source.begin_decoding(self._sequence)
                self._source.cut()

    def _go_waiting(self) -> None:
        simulation, request = self._simulation, self._request
        rank, hold = self._sequence.rank, request.hold
        simulation.take_back(request)
        simulation.dispatch(request, self._target.id, rank=rank, hold=hold)
        self._count()

    def _stage_out(self, tokens: int) -> None:
        self._stage += 1
        now = self._simulation.now
        there = self._simulation.links.send(self._source.id, self._target.id, tokens - self._sent, now)
        self._sent = tokens
        self._simulation.at(there, self._stage_over, None)

    def _stage_over(self, _: object) -> None:
        if not self._alive():
            self.abandon()
            return
        self._source._settle_run()
        left = self._sequence.computed - self._sent
        if left <= LAST_STAGE_BLOCKS * self._sequence.block_size:
            self._simulation._at_boundary(self._request, lambda *_: self._last_stage())
        elif self._stage < MAX_STAGES and math.isfinite(left):
            self._stage_out(self._sequence.computed)
        else:
            self.abandon()

    def _last_stage(self) -> None:
        self._source.halt(self._sequence)
        links, simulation = self._simulation.links, self._simulation
        left = self._sequence.computed - self._sent
        simulation.at(links.send(self._source.id, self._target.id, left, simulation.now), self._commit, None)

    def _commit(self, _: object) -> None:
        copy, target = self._copy, self._target
        if self._request.id not in self._simulation.migrations:
            return
        copy.length, computed = self._sequence.length, self._sequence.computed
        missing = copy.blocks_for(copy.length) - len(copy.blocks)
        if target.id not in self._simulation.fleet or missing > target.batcher.pool.free:
            self.abandon()
            return
        copy.blocks += target.batcher.pool.allocate(missing)
        copy.computed = computed
        del self._simulation.migrations[self._request.id]
        self._source.batcher.remove(self._sequence.id)
        self._source.cut()
        self._request.at, self._request.sequence = target, copy
        target.batcher.resume(copy.id)
        target.begin_decoding(copy)
        target.cut()
        self._count()

    def _alive(self) -> bool:
        request = self._request
        return request.sequence is self._sequence and self._sequence.ends_at_step >= 0 and not self._source.silent

    def _sequence_state(self, copy: SimSequence) -> None:
        copy.length = self._sequence.length
        copy.arriving = self._sequence.computed
        copy._hashes = list(self._sequence._hashes)

    def _count(self) -> None:
        self._request.moves += 1
        self._simulation.moves += 1
