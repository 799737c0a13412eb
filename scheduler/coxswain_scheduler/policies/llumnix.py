"""Llumnix v0: dispatch to the freest engine, and live migration from the fullest to the freest.

Source: OSDI'24, its artifact, and AlibabaPAI/llumnix. An engine's freeness is how many steps are left until it is full:

    remaining steps = (free blocks − blocks of the queued requests − headroom) / (running + queued)

For migration only the first of the queued requests counts, unless `defragment=false`. Engines are busy below 10
remaining steps, at 128 decodes, or with all KV spoken for; dispatch takes the freest that is not busy. Every 50 ms
engines with preempted requests or fewer than `threshold` (3) remaining steps are paired, fullest first, with those
above it and nothing preempted, freest first; of each the shortest running request moves (`cluster.move` copies in
stages), one migration per engine at a time. A migration that has not ended after 10 s is given up (the
pre-allocation's time limit).

Headroom is all of an engine's KV but the 1,600 tokens at which decoding is near its best speed (`ideal_tokens`). For
migration, and where a normal request is dispatched, engines with high-priority requests keep it; where one of high
priority is, engines without (as in the artifact): so these gather on few engines, which the others leave. High priority
is queued first and never moved.

With `reports=true` nothing that was dispatched counts for the next dispatch before the engine reports it
(`policies.reports`), which is so in the artifact and later; by default the scheduler knows what it has sent.

With `scale=true`, every 10 s: one more engine if the mean of remaining steps is below `up` (10), one less if it is
above `down` (60) and would stay so; an engine that leaves is emptied by migration. The paper sweeps these thresholds;
its artifact has down = up + 50.

Reads: free blocks, running and queued requests, priorities, preempted requests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.packing import FreeBlocks
from coxswain_scheduler.policies.base import Baseline, Decision
from coxswain_scheduler.policies.reports import Reports

BUSY_STEPS = 10
BUSY_DECODES = 128
MIGRATE_STEPS = 3
MIGRATION_TIMEOUT_SECONDS = 10.0
SCALE_SECONDS = 10.0


@dataclass(slots=True)
class Migration:
    """A request under way."""

    request: Request
    source: int
    target: int
    started: float


class Llumnix(Baseline):
    """Dispatch and reschedule by freeness."""

    period = 0.05

    def __init__(
        self,
        *,
        defragment: bool = True,
        migrate: bool = True,
        threshold: float = MIGRATE_STEPS,
        ideal_tokens: int = 1600,
        priorities: bool = True,
        reports: bool = False,
        scale: bool = False,
        up: float = 10.0,
        down: float = 60.0,
        minimum: int = 1,
        maximum: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self.defragment, self.migrate, self.threshold = defragment, migrate, threshold
        self.ideal_tokens, self.priorities, self.reports = ideal_tokens, priorities, reports
        self.scale, self.up, self.down, self.minimum, self.maximum = scale, up, down, minimum, maximum
        self._migrations: dict[int, Migration] = {}
        self._leaving: dict[int, Engine] = {}
        self._free, self._reports = FreeBlocks(), Reports()
        self._starting = 0
        self._next_scaling = SCALE_SECONDS

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._migrations, self._leaving, self._starting = {}, {}, 0
        self._free, self._reports = FreeBlocks(), Reports()
        self._next_scaling = cluster.now + SCALE_SECONDS

    def admit(self, request: Request) -> bool:
        high = self.priorities and request.priority > 0
        engines = self.cluster.engines
        steps = {engine.id: self.remaining_steps(engine, high=high) for engine in engines.values()}
        idle = [engine for engine, left in steps.items() if not _busy(engines[engine], left)] or steps
        loads = {engine: -steps[engine] for engine in idle}
        decision = self.lowest(loads, "freest engine", "minus remaining steps")
        if self.reports and decision.chosen is not None:
            self._reports.sent(request, engines[decision.chosen], now=self.cluster.now)
        return self.send(request, decision, rank=-float(request.priority) if self.priorities else 0.0)

    def tick(self) -> None:
        self._forget_ended_migrations()
        if self.migrate:
            self._migrate()
        if self.scale and self.cluster.now >= self._next_scaling:
            self._next_scaling = self.cluster.now + SCALE_SECONDS
            self._rescale()
        self._empty_leaving()

    def joined(self, engine: Engine) -> None:
        self._starting = max(0, self._starting - 1)
        super().joined(engine)

    def lost(self, engine: int) -> None:
        super().lost(engine)
        self._leaving.pop(engine, None)

    def remaining_steps(
        self, engine: Engine, *, first: bool = False, high: bool = False, idle: float = math.inf
    ) -> float:
        """Steps until `engine` is full, a block a request and step; `idle` for one without requests. With `first`, only
        the first queued request counts; with `high`, it is what a request of high priority would find."""
        headroom = self._headroom_blocks(engine, high)
        if first:
            batch, queued = engine.running + min(1, engine.waiting), self._first_waiting_blocks(engine)
        else:
            untold, blocks = self._reports.untold(engine, now=self.cluster.now)
            batch, queued = engine.running + engine.waiting - untold, engine.waiting_blocks - blocks
        return (self._free.now(engine) - queued - headroom) / batch if batch else idle

    def _first_waiting_blocks(self, engine: Engine) -> int:
        if not engine.waiting:
            return 0
        first = engine.requests[-engine.waiting]
        return -(-(first.prompt_tokens + first.emitted) // engine.block_size)

    def _headroom_blocks(self, engine: Engine, high: bool) -> int:
        if not self.priorities or any(request.priority > 0 for request in engine.requests) == high:
            return 0
        return max(0, engine.total_blocks - self.ideal_tokens // engine.block_size)

    def _migrate(self) -> None:
        """Pair the fullest with the freest, and move one request of each pair."""
        engines = self.cluster.engines.values()
        steps = {engine.id: self.remaining_steps(engine, first=self.defragment) for engine in engines}
        in_use = {engine for move in self._migrations.values() for engine in (move.source, move.target)}
        preempted = {engine.id: self._preempted(engine) for engine in engines}
        open_ = [engine for engine in steps if engine not in in_use]
        sources = [engine for engine in open_ if preempted[engine] or steps[engine] < self.threshold]
        targets = [engine for engine in open_ if not preempted[engine] and steps[engine] > self.threshold]
        sources.sort(key=steps.__getitem__)
        targets.sort(key=steps.__getitem__, reverse=True)
        for source, target in zip(sources, targets, strict=False):
            self._move_shortest(self.cluster.engines[source], target, steps)

    def _move_shortest(self, source: Engine, target: int, steps: dict[int, float]) -> None:
        room = self.cluster.engines[target].free_blocks * self.cluster.engines[target].block_size
        running = [request for request in self._movable(source) if request.priority <= 0 or not self.priorities]
        shortest = min(running, key=_tokens, default=None)
        if shortest is None or _tokens(shortest) > room:
            return
        self._move(shortest, source.id, target, "shortest running, from the fullest to the freest", steps)

    def _move(self, request: Request, source: int, target: int, rule: str, steps: dict[int, float]) -> None:
        request.note = Decision(rule, "remaining steps", {source: steps[source], target: steps[target]}, target)
        self._migrations[request.id] = Migration(request, source, target, self.cluster.now)
        self.flights.remove(request, now=self.cluster.now)
        self.flights.add(request, target, tokens=0, now=self.cluster.now)
        self.cluster.move(request, target)

    def _movable(self, engine: Engine) -> list[Request]:
        return [
            request
            for request in engine.requests[: engine.running]
            if request.emitted and request.id not in self._migrations
        ]

    def _preempted(self, engine: Engine) -> bool:
        """Whether a queued request has run before; one that is on its way here from another engine does not count."""
        queued = engine.requests[-engine.waiting :] if engine.waiting else ()
        return any(request.emitted and request.engine == engine.id for request in queued)

    def _forget_ended_migrations(self) -> None:
        limit = self.cluster.now - MIGRATION_TIMEOUT_SECONDS
        for moved, move in list(self._migrations.items()):
            if move.request.engine != move.source or move.started < limit:
                del self._migrations[moved]

    def _rescale(self) -> None:
        """One engine more or less, by the mean of remaining steps; an idle engine's is all its free blocks."""
        engines = list(self.cluster.engines.values())
        steps = [self.remaining_steps(engine, idle=float(engine.free_blocks)) for engine in engines]
        mean = sum(steps) / len(steps) if steps else 0.0
        if mean < self.up and len(engines) + self._starting < self.maximum:
            self._starting += 1
            self.cluster.start()
        elif mean > self.down and len(engines) > self.minimum:
            last = min(engines, key=lambda engine: engine.running + engine.waiting)
            rest = [step for engine, step in zip(engines, steps, strict=True) if engine is not last]
            if sum(rest) / len(rest) > self.down:
                self._leaving[last.id] = last
                self.cluster.stop(last.id)

    def _empty_leaving(self) -> None:
        """Move what an engine that leaves still runs, one at a time; what it has not begun is dispatched anew."""
        for engine in list(self._leaving.values()):
            if not engine.requests:
                del self._leaving[engine.id]
                continue
            for request in list(engine.requests[-engine.waiting :] if engine.waiting else ()):
                self.cluster.take_back(request)
                self.arrived(request)
            if all(move.source != engine.id for move in self._migrations.values()) and (
                running := self._movable(engine)
            ):
                steps = {other.id: self.remaining_steps(other) for other in self.cluster.engines.values()}
                target = max(steps, key=steps.__getitem__)
                steps[engine.id] = self.remaining_steps(engine)
                self._move(min(running, key=_tokens), engine.id, target, "its engine leaves", steps)


def _busy(engine: Engine, remaining_steps: float) -> bool:
    spoken_for = engine.total_blocks - engine.free_blocks + engine.waiting_blocks
    return remaining_steps < BUSY_STEPS or engine.decoding > BUSY_DECODES or spoken_for >= engine.total_blocks


def _tokens(request: Request) -> int:
    return request.prompt_tokens + request.emitted
