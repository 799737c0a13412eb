"""NVIDIA Dynamo's KV router: prefill tokens still to compute plus blocks in use, less what the cache saves.

Source: ai-dynamo 1.6.1, `lib/kv-router`. With `block` tokens to a block, lowest cost wins, ties at random:

    credit = device_credit · decay · cached blocks,     decay = 1 / (1 + overlap_decay · excess / request's blocks)
    cost   = prefill_load_scale · max(0, (active prefill tokens + prompt) / block − credit) + decode blocks
             + request_weight · active requests

Decode blocks are the distinct prompt blocks of all requests active there, this one's among them; prefill tokens are
active until the first token; `excess` is by how many blocks an engine's prefill load exceeds the least loaded one's.
Constants: scale 1, device credit 1, decay 0, request weight 0, temperature 0 (else a softmax over costs divided by
their range), and requests wait at the router while every engine has more active prefill tokens than 16 steps'
budgets. Credits of host memory and disk (0.75, 0.25) have nothing to count here. Reads: the prefix index by KV
events, and the router's own count of active tokens, blocks and requests.

With `prefill=N`: in the prefill pool decode blocks do not count; in the decode pool only they do, each
request's its own.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.policies.base import Decision, Split


class ActiveBlocks:
    """Distinct full prompt blocks of the active requests of one engine."""

    def __init__(self) -> None:
        self._users: Counter[int] = Counter()

    @property
    def count(self) -> int:
        """Blocks, a shared one once."""
        return len(self._users)

    def new(self, hashes: Sequence[int]) -> int:
        """How many of a prompt's blocks are not active. Hashes are chained: the first that is absent is followed by
        absent ones only."""
        return len(hashes) - bisect_left(hashes, True, key=lambda block: block not in self._users)

    def add(self, hashes: Sequence[int]) -> None:
        """A request is active."""
        self._users.update(hashes)

    def remove(self, hashes: Sequence[int]) -> None:
        """It is no more."""
        users = self._users
        for block in hashes:
            if users[block] == 1:
                del users[block]
            else:
                users[block] -= 1


class DynamoKV(Split):
    """The engine of the lowest cost."""

    def __init__(
        self,
        *,
        prefill: int = 0,
        prefill_load_scale: float = 1.0,
        device_credit: float = 1.0,
        overlap_decay: float = 0.0,
        request_weight: float = 0.0,
        temperature: float = 0.0,
        queue_threshold: float = 16.0,
        seed: int = 0,
    ) -> None:
        super().__init__(prefill=prefill, seed=seed)
        self.prefill_load_scale, self.device_credit = prefill_load_scale, device_credit
        self.overlap_decay, self.request_weight = overlap_decay, request_weight
        self.temperature, self.queue_threshold = temperature, queue_threshold
        self._blocks: dict[int, ActiveBlocks] = {}
        self._active: dict[int, int] = {}

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._blocks, self._active = {engine: ActiveBlocks() for engine in cluster.engines}, {}
        for engine in cluster.engines.values():
            for request in engine.requests:
                self._activate(request, engine.id)

    def arrived(self, request: Request) -> None:
        self._deactivate(request)
        super().arrived(request)

    def ended(self, request: Request) -> None:
        self._deactivate(request)
        super().ended(request)

    def joined(self, engine: Engine) -> None:
        self._blocks[engine.id] = ActiveBlocks()
        super().joined(engine)

    def lost(self, engine: int) -> None:
        super().lost(engine)
        self._blocks.pop(engine, None)
        self._active = {request: where for request, where in self._active.items() if where != engine}

    def admit(self, request: Request) -> bool:
        pool = self.pool("Prefill" if self.prefill else "Serve")
        if all(self._full(engine) for engine in pool):
            return False
        super().admit(request)
        if not self.prefill and (flight := self.flights.get(request)):
            self._activate(request, flight.engine)
        return True

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        held = self.cluster.holders(request)
        least = min(self.flights[engine].tokens for engine in candidates)
        costs = {}
        for engine in candidates:
            block = self.cluster.engines[engine].block_size
            loaded = (self.flights[engine].tokens + request.prompt_tokens) / block
            excess = (self.flights[engine].tokens - least) / block
            decay = 1 / (1 + self.overlap_decay * excess * block / request.prompt_tokens)
            credit = self.device_credit * decay * (held.get(engine, 0) // block)
            costs[engine] = self.prefill_load_scale * max(0.0, loaded - credit)
            costs[engine] += self.request_weight * self.flights[engine].count
            costs[engine] += 0 if self.prefill else self._potential_blocks(request, engine)
        return self._select(costs, "lowest cost")

    def settle_decode(self, request: Request, candidates: Sequence[int]) -> Decision:
        costs = {
            engine: (self.flights[engine].context + request.prompt_tokens) / self.cluster.engines[engine].block_size
            + self.request_weight * self.flights[engine].count
            for engine in candidates
        }
        return self._select(costs, "lowest decode cost")

    def _select(self, costs: Mapping[int, float], rule: str) -> Decision:
        spread = max(costs.values()) - min(costs.values())
        if not self.temperature or not spread:
            return self.lowest(costs, rule, "blocks")
        weights = [math.exp(-cost / spread / self.temperature) for cost in costs.values()]
        return Decision("softmax of cost", "blocks", costs, self.random.choices(list(costs), weights)[0])

    def _full(self, engine: int) -> bool:
        budget = self.cluster.engines[engine].step_tokens
        return self.flights[engine].tokens > self.queue_threshold * budget

    def _potential_blocks(self, request: Request, engine: int) -> float:
        active = self._blocks[engine]
        return active.count + active.new(request.hashes)

    def _activate(self, request: Request, engine: int) -> None:
        self._active[request.id] = engine
        self._blocks[engine].add(request.hashes)

    def _deactivate(self, request: Request) -> None:
        engine = self._active.pop(request.id, None)
        if engine is not None:
            self._blocks[engine].remove(request.hashes)
