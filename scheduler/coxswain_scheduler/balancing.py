"""Which decodes go on elsewhere, where engines do both: away from KV that runs out, and from slow steps to fast ones.

An engine whose KV is soon used up would preempt: `Pairing` finds who is to go, and where; and so it does for prompts
that find room nowhere, though the fleet has it. And as a step takes longer the more it decodes, long answers are
evened out, one at a time: from the engine of the slowest step to that of the fastest. High priorities go to their
`hosting`, and the others away from there.

What was told to move is kept in mind until it has arrived: an engine that gives room away is not asked for more than it
needs, and one that takes somebody in is not taken for as empty as it reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from coxswain_scheduler.freeness import Worker
from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.migration import Movable, Pairing
from coxswain_scheduler.packing import FreeBlocks, Packing

_LASTS_STEPS: Final = 100
"""An engine whose KV lasts for more steps is no reason to look for migrations."""
_SLOWER: Final = 1.1
"""How many times the fastest step the slowest takes before anybody moves for it."""
_SETTLED_TOKENS: Final = 200
"""An answer that has got this far is taken to last long enough for a move to be worth its while."""
_STAYING_TOKENS: Final = 50
"""The same, where it is to leave a host."""
_GIVEN_UP_SECONDS: Final = 3.0
"""A migration that has not ended by then was refused or abandoned."""

Moves = list[tuple[Request, Engine]]


class UnderWay(NamedTuple):
    """A request that was told to move."""

    request: Request
    source: int
    target: int
    blocks: int
    since: float


class Balancing:
    """What to move, by what engines report."""

    def __init__(self, cluster: Cluster, packing: Packing) -> None:
        """`packing`: what is placed where."""
        self._cluster = cluster
        self._packing = packing
        self._under_way: dict[int, UnderWay] = {}
        """By request."""
        self._free = FreeBlocks()

    def moves(self, token_seconds: Mapping[int, float], wanted: Mapping[int, int]) -> Moves:
        """What should move now.

        `token_seconds`: to compute a prompt token, by engine; `wanted`: the blocks that prompts need, by engine.
        """
        engines = list(self._cluster.engines.values())
        if len(engines) < 2:
            return []
        self._forget_ended()
        busy = self._busy(wanted)
        for engine in engines:
            self._free.now(engine)  # tokens decoded count from a report on, not from when somebody asks
        found: Moves = []
        if wanted or any(map(self._runs_out, engines)):
            found += self._pair(engines, token_seconds, wanted, busy)
        for find in (self._gather, self._vacate, self._even_out):
            busy.update(target.id for _, target in found)
            busy.update(request.engine for request, _ in found)
            found += find([engine for engine in engines if engine.id not in busy])
        self._begin(found)
        return found

    # Who is on the way

    def _begin(self, moves: Moves) -> None:
        for request, target in moves:
            assert request.engine is not None
            blocks = -(-_tokens(request) // target.block_size)
            self._under_way[request.id] = UnderWay(request, request.engine, target.id, blocks, self._cluster.now)

    def _forget_ended(self) -> None:
        oldest = self._cluster.now - _GIVEN_UP_SECONDS
        for name, move in list(self._under_way.items()):
            if move.request.engine != move.source or move.since < oldest:
                del self._under_way[name]

    def _busy(self, wanted: Mapping[int, int]) -> set[int | None]:
        """Engines that take part in a migration; one that makes room for a prompt may send several away at a time."""
        busy: set[int | None] = {move.target for move in self._under_way.values()}
        return busy.union(move.source for move in self._under_way.values() if move.source not in wanted)

    # Who should go

    def _pair(
        self,
        engines: Sequence[Engine],
        token_seconds: Mapping[int, float],
        wanted: Mapping[int, int],
        busy: set[int | None],
    ) -> Moves:
        leaving: Counter[int] = Counter()
        for move in self._under_way.values():
            leaving[move.source] += move.blocks
        workers = [
            _worker(
                engine,
                token_seconds[engine.id],
                free=self._free.now(engine) + leaving[engine.id],
                wanted=wanted.get(engine.id, 0),
                busy=engine.id in busy,
            )
            for engine in engines
        ]
        pairing = Pairing(
            block_size=engines[0].block_size,
            kv_bytes_per_token=self._cluster.kv_bytes_per_token,
            link_bytes_per_second=self._cluster.link_bytes_per_second,
        )
        found: Moves = []
        for pair in pairing.pair(workers, lambda number: self._movable(engines[number])):
            assert isinstance(pair.request, int)
            request = self._packing.decoding[engines[pair.source].id][pair.request]
            found.append((request, engines[pair.destination]))
        return found

    def _movable(self, engine: Engine) -> list[Movable]:
        movable = [Movable(request=one.id, tokens=_tokens(one), priority=one.priority) for one in self._ready(engine)]
        return sorted(movable, key=lambda one: (one.priority, one.tokens))

    def _ready(self, engine: Engine) -> list[Request]:
        """Requests that decode there and can move."""
        return [
            one
            for one in self._packing.decoding[engine.id].values()
            if one.engine == engine.id and one.emitted > 0 and one.id not in self._under_way
        ]

    def _settled(self, engine: Engine, tokens: int) -> list[Request]:
        """Those of no high priority, of so many tokens or more."""
        return [one for one in self._ready(engine) if one.priority <= 0 and one.emitted >= tokens]

    def _even_out(self, engines: Sequence[Engine]) -> Moves:
        """One long answer, from the slowest steps to the fastest."""
        steps = {engine.id: _step(engine) for engine in engines if engine.id not in self._packing.hosts.engines}
        if len(steps) < 2:
            return []
        slow = self._cluster.engines[max(steps, key=steps.__getitem__)]
        fast = self._cluster.engines[min(steps, key=steps.__getitem__)]
        if steps[slow.id] < _SLOWER * steps[fast.id]:
            return []
        best, least = None, steps[slow.id]
        for request in self._fitting(self._settled(slow, _SETTLED_TOKENS), fast):
            tokens = _tokens(request)
            worse = max(_step(slow, -1, -tokens), _step(fast, 1, tokens))
            if worse < least:
                best, least = request, worse
        return [(best, fast)] if best is not None else []

    def _gather(self, engines: Sequence[Engine]) -> Moves:
        """The longest of the high priorities that decode elsewhere, from each such engine, to a host of its own."""
        names = self._packing.hosts.engines
        hosts = sorted((one for one in engines if one.id in names), key=_step)
        found: Moves = []
        for source in engines:
            if not hosts or source.id in names or not self._packing.hosts.high(source.id):
                continue
            strays = [one for one in self._ready(source) if one.priority > 0]
            longest = max(self._fitting(strays, hosts[0]), key=_tokens, default=None)
            if longest is not None:
                found.append((longest, hosts.pop(0)))
        return found

    def _vacate(self, engines: Sequence[Engine]) -> Moves:
        """The longest of the others from each host, and from each engine that holds all it can; each to an engine of
        its own that is no host, those of the fastest steps first."""
        hosts = self._packing.hosts.engines
        calm = sorted((one for one in engines if one.id not in hosts), key=_step, reverse=True)
        found: Moves = []
        for source in engines:
            host = source.id in hosts
            if not calm or not (host or self._free.now(source) < 0):
                continue
            settled = self._settled(source, _STAYING_TOKENS if host else 1)
            longest = max(self._fitting(settled, calm[-1]), key=_tokens, default=None)
            if longest is not None:
                found.append((longest, calm.pop()))
        return found

    def _fitting(self, requests: Iterable[Request], target: Engine) -> list[Request]:
        """Those that take no more than half of what is free there."""
        room = self._free.now(target) * target.block_size // 2
        return [one for one in requests if _tokens(one) <= room]

    def _runs_out(self, engine: Engine) -> bool:
        running, free = engine.running, self._free.now(engine)
        return engine.waiting > 0 or (running > 0 and free * engine.block_size < _LASTS_STEPS * running)


def _tokens(request: Request) -> int:
    return request.prompt_tokens + request.emitted


def _step(engine: Engine, more: int = 0, tokens: int = 0) -> float:
    """Seconds of its decode step, with so many sequences and tokens more."""
    return engine.timing.decode_seconds(max(1, engine.decoding + more), max(1, engine.context + tokens), 1)


def _worker(engine: Engine, token_seconds: float, *, free: int, wanted: int, busy: bool) -> Worker:
    running, waiting = engine.running, engine.waiting
    blocks = engine.waiting_blocks // waiting if waiting else 0
    if wanted:
        blocks, waiting = max(blocks, wanted), waiting + 1
    return Worker(
        free_blocks=free,
        total_blocks=engine.total_blocks,
        running=running,
        waiting=waiting,
        wanted_blocks=blocks,
        wanted_priority=0,
        step_seconds=_step(engine),
        token_seconds=token_seconds,
        busy=busy,
    )
