"""Replicas for the gateway's cluster, in virtual time: what they would report, without a model or a socket.

Each takes one prompt at a time and decodes beside it. It reports the step that took a prompt in, the one that ended its
prefill, and the end of the answer, stores the prompt's blocks, and gives up those that it used least recently.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from coxswain_gateway.cluster import LiveCluster
from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member
from coxswain_gateway.token_log import TokenLog
from coxswain_protocol.messages import EngineInfo, Hello, Load, Sampling, StepEvent
from coxswain_scheduler.policies.interface import Objectives, Policy

BLOCK = 64
_TOKEN_SECONDS = 4e-5
_STEP_SECONDS = 0.02
_ANSWER_SECONDS = 3.0
_BLOCKS = 16_384
_SEQUENCES = 256


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens, and the hashes of their full blocks."""

    tokens: int
    hashes: Sequence[int]


class _Nobody:
    """Listens."""

    def advanced(self) -> None:
        """See `Listener`."""


class Asked(Generation):
    """A generation whose hashes are ready."""

    def __init__(self, prompt: Prompt, number: int, now: float) -> None:
        log = TokenLog(str(number), range(prompt.tokens), Sampling(seed=0, max_tokens=256))  # type: ignore[arg-type]
        super().__init__(log, _NOBODY, tokenizer="t", now=now)
        self.prompt = prompt


_NOBODY = _Nobody()


class _Cluster(LiveCluster):
    def _hashes(self, generation: Generation) -> dict[int, Sequence[int]]:
        assert isinstance(generation, Asked)
        return {BLOCK: generation.prompt.hashes}


@dataclass(eq=False)
class _Replica:
    """One engine: what it runs and what it has cached."""

    member: Member
    capacity: int
    queue: deque[Asked] = field(default_factory=deque)
    pending: int = 0
    running: int = 0
    decoding: int = 0
    context: int = 0
    step: int = 0
    blocks: dict[int, None] = field(default_factory=dict)

    def load(self) -> Load:
        held = self.context // BLOCK
        return Load(
            running=self.running,
            waiting=len(self.queue) - (self.running - self.decoding),
            free_blocks=_BLOCKS - held,
            total_blocks=_BLOCKS,
            pending_prefill=self.pending,
            context=self.context,
            decoding=self.decoding,
        )


class World:
    """Replicas, the gateway's cluster, and time."""

    def __init__(self, replicas: int, policy: Policy, *, cached_blocks: int, seed: int = 0) -> None:
        self.now = 0.0
        self.refused = 0
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._submitted: list[tuple[Asked, _Replica]] = []
        self.cluster = _Cluster(
            policy,
            objectives=Objectives(),
            clock=lambda: self.now,
            submit=self._submit,
            refuse=self._refuse,
            review=lambda: None,
        )
        self._replicas = [_Replica(_member(number), cached_blocks // replicas) for number in range(replicas)]
        self._of = {replica.member.key: replica for replica in self._replicas}
        for replica in self._replicas:
            self.cluster.add(replica.member)
            self.cluster.open(replica.member)
            self.cluster.reported(replica.member, replica.load())
        self.everywhere = frozenset(self.cluster.engines)

    def proceed(self, until: float) -> None:
        """Let happen what happens by then."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, happen = heapq.heappop(events)
            happen()
            self._deliver()
        self.now = until
        self.cluster.tick()
        self._deliver()

    def arrived(self, asked: Asked) -> None:
        """A request for any of the replicas."""
        self.cluster.arrived(asked, self.everywhere)
        self._deliver()

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), happen))

    def _submit(self, generation: Generation, member: Member) -> None:
        """On its way: what the replica makes of it comes after the gateway's own part, which may be timed."""
        assert isinstance(generation, Asked)
        generation.member = member
        self._submitted.append((generation, self._of[member.key]))

    def _deliver(self) -> None:
        for asked, replica in self._submitted:
            replica.queue.append(asked)
            if len(replica.queue) == 1:
                self._after(_STEP_SECONDS, partial(self._admit, replica))
        self._submitted.clear()

    def _refuse(self, generation: Generation, reason: str) -> None:
        self.refused += 1

    def _admit(self, replica: _Replica) -> None:
        asked = replica.queue[0]
        hashes = asked.prompt.hashes
        held = next((depth for depth, block in enumerate(hashes) if block not in replica.blocks), len(hashes))
        replica.pending = asked.prompt.tokens - held * BLOCK
        replica.running += 1
        replica.context += asked.prompt.tokens
        self._after(replica.pending * _TOKEN_SECONDS, lambda: self._prefilled(replica))
        self._stepped(replica, 0)

    def _prefilled(self, replica: _Replica) -> None:
        asked, computed = replica.queue.popleft(), replica.pending
        replica.pending = 0
        replica.decoding += 1
        self._cache(replica, asked.prompt.hashes)
        self.cluster.began(asked)
        self._after(self._rng.expovariate(1 / _ANSWER_SECONDS), lambda: self._end(replica, asked))
        if replica.queue:
            self._after(_STEP_SECONDS, lambda: self._admit(replica))
        self._stepped(replica, min(computed, 8192))

    def _end(self, replica: _Replica, asked: Asked) -> None:
        replica.running -= 1
        replica.decoding -= 1
        replica.context -= asked.prompt.tokens
        self.cluster.reported(replica.member, replica.load())
        self.cluster.ended(asked)

    def _stepped(self, replica: _Replica, computed: int) -> None:
        replica.step += 2
        seconds = _STEP_SECONDS + computed * _TOKEN_SECONDS
        event = StepEvent(replica.step, seconds, computed, replica.decoding, replica.context)
        if self.cluster.stepped(replica.member, event, replica.load()):
            self.cluster.changed(replica.member)

    def _cache(self, replica: _Replica, hashes: Sequence[int]) -> None:
        blocks = replica.blocks
        new = [block for block in hashes if block not in blocks]
        for block in reversed(hashes):
            blocks.pop(block, None)
            blocks[block] = None
        excess = len(blocks) - replica.capacity
        if excess > 0:
            oldest = iter(blocks)
            gone = [next(oldest) for _ in range(excess)]
            for block in gone:
                del blocks[block]
            self.cluster.roster.removed(replica.member, gone)
        self.cluster.roster.stored(replica.member, new)


def _member(number: int) -> Member:
    info = EngineInfo(
        engine="native",
        model="m",
        weights_digest="w",
        tokenizer_digest="t",
        vocab_size=128_256,
        max_model_len=131_072,
        block_size=BLOCK,
        num_blocks=_BLOCKS,
        max_num_seqs=_SEQUENCES,
        eos_ids=(),
        accelerator="h100",
        step_floor_seconds=0.01,
        max_step_tokens=8192,
    )
    hello = Hello(protocol=1, token="", replica=f"replica-{number}", incarnation="0", info=info)
    return Member(hello, heard=0.0)
