"""Replicas for a gateway, in virtual time: what they would report, without a model or a socket.

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
from itertools import count, islice
from typing import Any

from benchmarks.told import BLOCK, Gateway, Prompt
from coxswain_gateway.members import Member
from coxswain_protocol.messages import EngineInfo, Hello, Load, StepEvent
from coxswain_scheduler.interface import Policy

_TOKEN_SECONDS = 4e-5
_STEP_SECONDS = 0.02
_ANSWER_SECONDS = 3.0
_BLOCKS = 16_384
_SEQUENCES = 256


@dataclass(eq=False)
class _Replica:
    """One engine: what it runs and what it has cached."""

    member: Member
    capacity: int
    queue: deque[tuple[int, Prompt]] = field(default_factory=deque)
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
    """Replicas, a gateway, and time. `tape` has what the gateway was told: when, by which method, and with what."""

    def __init__(self, replicas: int, policy: Policy, *, cached_blocks: int, seed: int = 0) -> None:
        self.now = 0.0
        self.tape: list[tuple[float, str, tuple[Any, ...]]] = []
        self.gateway = Gateway(policy, self._submit)
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        fleet = [_Replica(_member(number), cached_blocks // replicas) for number in range(replicas)]
        self._of = {replica.member.key: replica for replica in fleet}
        for replica in fleet:
            self._tell("joined", replica.member, replica.load())

    def proceed(self, until: float) -> None:
        """Let happen what happens by then."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, happen = heapq.heappop(events)
            happen()
        self.now = until
        self._tell("tick")

    def arrived(self, number: int, prompt: Prompt) -> None:
        """A request for any of the replicas."""
        self._tell("arrived", number, prompt)

    def _tell(self, what: str, *told: Any) -> None:
        self.tape.append((self.now, what, told))
        self.gateway.tell(self.now, what, told)

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), happen))

    def _submit(self, number: int, prompt: Prompt, member: Member) -> None:
        replica = self._of[member.key]
        replica.queue.append((number, prompt))
        if len(replica.queue) == 1:
            self._after(_STEP_SECONDS, partial(self._admit, replica))

    def _admit(self, replica: _Replica) -> None:
        _, prompt = replica.queue[0]
        held = next((depth for depth, block in enumerate(prompt.hashes) if block not in replica.blocks), None)
        replica.pending = prompt.tokens - (len(prompt.hashes) if held is None else held) * BLOCK
        replica.running += 1
        replica.context += prompt.tokens
        self._after(replica.pending * _TOKEN_SECONDS, lambda: self._prefilled(replica))
        self._stepped(replica, 0)

    def _prefilled(self, replica: _Replica) -> None:
        (number, prompt), computed = replica.queue.popleft(), replica.pending
        replica.pending = 0
        replica.decoding += 1
        self._cache(replica, prompt.hashes)
        self._tell("began", number)
        self._after(self._rng.expovariate(1 / _ANSWER_SECONDS), lambda: self._end(replica, number, prompt))
        if replica.queue:
            self._after(_STEP_SECONDS, lambda: self._admit(replica))
        self._stepped(replica, min(computed, 8192))

    def _end(self, replica: _Replica, number: int, prompt: Prompt) -> None:
        replica.running -= 1
        replica.decoding -= 1
        replica.context -= prompt.tokens
        self._tell("ended", number, replica.member, replica.load())

    def _stepped(self, replica: _Replica, computed: int) -> None:
        replica.step += 2
        seconds = _STEP_SECONDS + computed * _TOKEN_SECONDS
        event = StepEvent(replica.step, seconds, computed, replica.decoding, replica.context)
        self._tell("stepped", replica.member, event, replica.load())

    def _cache(self, replica: _Replica, hashes: Sequence[int]) -> None:
        blocks = replica.blocks
        new = tuple(block for block in hashes if block not in blocks)
        for block in reversed(hashes):
            blocks.pop(block, None)
            blocks[block] = None
        excess = len(blocks) - replica.capacity
        if excess > 0:
            gone = tuple(islice(blocks, excess))
            for block in gone:
                del blocks[block]
            self._tell("removed", replica.member, gone)
        self._tell("stored", replica.member, new)


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
