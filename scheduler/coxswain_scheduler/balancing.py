"""Which decodes go on elsewhere, where engines do both: away from KV that runs out, and from slow steps to fast ones.

An engine whose KV is soon used up would preempt: `Pairing` finds who is to go, and where; and so it does for a prompt
that finds room nowhere, though the fleet has it. And as a step takes longer the more it decodes, long answers are
evened out, one at a time: from the engine of the slowest step to that of the fastest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coxswain_scheduler.migration import Movable, Pairing, Worker, Workers
from coxswain_scheduler.policies.interface import Cluster, Engine, Request

_LASTS_STEPS = 100
"""An engine whose KV lasts for more steps is no reason to look for migrations."""
_SLOWER = 1.1
"""How many times the fastest step the slowest takes before anybody moves for it."""
_SETTLED_TOKENS = 200
"""An answer that has got this far is taken to last long enough for a move to be worth its while."""

Moves = list[tuple[Request, Engine]]


class Balancing:
    """What to move, by what engines report."""

    def __init__(self, cluster: Cluster, decoding: Mapping[int, Mapping[int, Request]]) -> None:
        """`decoding`: by engine, the requests placed there, by id."""
        self._cluster = cluster
        self._decoding = decoding

    def moves(self, token_seconds: Mapping[int, float], wanted: tuple[int, int] | None = None) -> Moves:
        """What should move now.

        `token_seconds`: to compute a prompt token, by engine; `wanted`: an engine, and the blocks that a prompt needs
        there.
        """
        engines = list(self._cluster.engines.values())
        if len(engines) < 2:
            return []
        if wanted is None and not any(map(_runs_out, engines)):
            return self._even_out(engines)
        pairing = Pairing(
            block_size=engines[0].block_size,
            kv_bytes_per_token=self._cluster.kv_bytes_per_token,
            link_bytes_per_second=self._cluster.link_bytes_per_second,
        )
        workers = Workers(_worker(engine, token_seconds[engine.id], wanted) for engine in engines)
        found: Moves = []
        for move in pairing.pair(workers, lambda number: self._movable(engines[number])):
            assert isinstance(move.request, int)
            request = self._decoding[engines[move.source].id][move.request]
            found.append((request, engines[move.destination]))
        return found

    def _movable(self, engine: Engine) -> Sequence[Movable]:
        movable = [
            Movable(request=each.id, tokens=each.prompt_tokens + each.emitted, priority=each.priority)
            for each in self._settled(engine, 1)
        ]
        return sorted(movable, key=lambda one: (one.priority, one.tokens))

    def _settled(self, engine: Engine, tokens: int) -> list[Request]:
        """Requests that decode there and can move, of so many tokens or more."""
        requests = self._decoding[engine.id].values()
        return [one for one in requests if one.engine == engine.id and one.emitted >= tokens and one.priority <= 0]

    def _even_out(self, engines: Sequence[Engine]) -> Moves:
        steps = {engine.id: _step(engine) for engine in engines}
        slow = max(engines, key=lambda engine: steps[engine.id])
        fast = min(engines, key=lambda engine: steps[engine.id])
        if steps[slow.id] < _SLOWER * steps[fast.id]:
            return []
        room = fast.free_blocks * fast.block_size // 2
        settled = [one for one in self._settled(slow, _SETTLED_TOKENS) if one.prompt_tokens + one.emitted <= room]
        best, least = None, steps[slow.id]
        for request in settled:
            tokens = request.prompt_tokens + request.emitted
            worse = max(_step(slow, -1, -tokens), _step(fast, 1, tokens))
            if worse < least:
                best, least = request, worse
        return [(best, fast)] if best is not None else []


def _runs_out(engine: Engine) -> bool:
    running = engine.running
    return engine.waiting > 0 or (running > 0 and engine.free_blocks * engine.block_size < _LASTS_STEPS * running)


def _step(engine: Engine, more: int = 0, tokens: int = 0) -> float:
    """Seconds of its decode step, with so many sequences and tokens more."""
    return engine.timing.decode_seconds(max(1, engine.decoding + more), max(1, engine.context + tokens), 1)


def _worker(engine: Engine, token_seconds: float, wanted: tuple[int, int] | None) -> Worker:
    running, waiting = engine.running, engine.waiting
    blocks = engine.waiting_blocks // waiting if waiting else 0
    if wanted is not None and wanted[0] == engine.id:
        blocks, waiting = max(blocks, wanted[1]), waiting + 1
    return Worker(
        free_blocks=engine.free_blocks,
        total_blocks=engine.total_blocks,
        running=running,
        waiting=waiting,
        wanted_blocks=blocks,
        wanted_priority=0,
        step_seconds=_step(engine),
        token_seconds=token_seconds,
    )
