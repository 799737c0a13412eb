"""Splitwise's mixed pool: a prompt pool and a token pool that lend each other engines when full.

Source: splitwise-sim (Mutinifni), its MixedPool scheduler. The prompt goes to the prompt engine with the fewest
pending tokens, else to such a mixed one; an engine is full if it has a queue and would have more than 8,192 pending
tokens. The decode goes to the token engine with the least reserved memory, else to such a mixed one; full if the
request's whole memory does not fit. No prompt engine: the token engine with the fewest pending tokens becomes mixed.
No token engine: the prompt engine with the least memory does. Neither: one mixed engine, the one with the fewest
pending tokens of all, does both. An idle mixed engine returns to its pool.

The original reserves memory by the true output length, which its simulator knows and a gateway does not. Here a
request reserves its prompt plus the mean length of the last 1,000 answers (256 before the first); `output=N` reserves
a constant instead. Half of the engines are the prompt pool unless `prefill=N` says otherwise. Reads: its own count of
pending prompt tokens and reserved memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from coxswain_scheduler.interface import Cluster, Engine, Request, Role
from coxswain_scheduler.policies.base import Decision, Split

MAX_PENDING_TOKENS = 8192
HISTORY = 1000
FIRST_GUESS_TOKENS = 256


class Splitwise(Split):
    """Prompt, token and mixed engines. A mixed engine has the role Serve; `home` is the pool it came from."""

    def __init__(self, *, prefill: int = 0, output: int = 0, seed: int = 0) -> None:
        super().__init__(prefill=prefill, seed=seed)
        self.output = output
        self.home: dict[int, Role] = {}
        self._answers: deque[int] = deque(maxlen=HISTORY)
        self._answered = 0
        self._decodes_at: dict[int, int] = {}
        self._reserved: dict[int, set[int]] = {}
        self._prompts: dict[int, int] = {}

    def begin(self, cluster: Cluster) -> None:
        self.prefill = self.prefill or len(cluster.engines) // 2
        super().begin(cluster)
        self.home = {}
        for key, engine in cluster.engines.items():
            self.home[key] = engine.role if engine.role != "Serve" else self._short_pool()
        self._decodes_at, self._reserved = {}, {key: set() for key in cluster.engines}
        self._prompts = dict.fromkeys(cluster.engines, 0)
        self._answers.clear()
        self._answered = 0
        for engine in cluster.engines.values():
            for request in engine.requests:
                self._reserve(request, engine.id)

    def admit(self, request: Request) -> bool:
        prompt, decode = self._choose(request)
        assert prompt.chosen is not None and decode.chosen is not None
        self._reserve(request, decode.chosen)
        self.send(request, prompt, hold=prompt.chosen != decode.chosen)
        if self.flights.get(request) is None:
            self._release(request)
        return True

    def _choose(self, request: Request) -> tuple[Decision, Decision]:
        """An engine for the prompt and one for the answer, borrowing where a pool is full."""
        prompt = self._prompt_engine(request, self._of("Prefill")) or self._prompt_engine(request, self._of("Serve"))
        decode = self._decode_engine(request, self._of("Decode")) or self._decode_engine(request, self._of("Serve"))
        if prompt is None and decode is None:
            both = self._fewest_pending(list(self.cluster.engines), "neither pool has room: one engine does both")
            return self._mix(both), both
        if prompt is None:
            token_pool = self._of("Decode") or list(self.cluster.engines)
            prompt = self._mix(self._fewest_pending(token_pool, "the prompt pool is full: a token engine is borrowed"))
        if decode is None:
            prompt_pool = self._of("Prefill") or list(self.cluster.engines)
            decode = self._mix(self._least_memory(prompt_pool, "the token pool is full: a prompt engine is borrowed"))
        return prompt, decode

    def prefilled(self, request: Request) -> None:
        target = self._decodes_at.get(request.id)
        if target is None or target not in self.cluster.engines:
            if not self.cluster.engines:
                return
            decision = self._least_memory(self._of("Decode") or list(self.cluster.engines), "its token engine is gone")
            assert decision.chosen is not None
            target = decision.chosen
            self._reserve(request, target)
        self.flights.remove(request, now=self.cluster.now)
        self.flights.add(request, target, tokens=0, now=self.cluster.now)
        self.cluster.place(request, target)

    def arrived(self, request: Request) -> None:
        self._release(request)
        super().arrived(request)

    def ended(self, request: Request) -> None:
        self._release(request)
        if request.emitted:
            if len(self._answers) == HISTORY:
                self._answered -= self._answers[0]
            self._answers.append(request.emitted)
            self._answered += request.emitted
        super().ended(request)

    def stepped(self, engine: Engine) -> None:
        super().stepped(engine)
        if engine.role == "Serve" and not self.flights[engine.id].count and not self._reserved[engine.id]:
            engine.role = self.home[engine.id]

    def joined(self, engine: Engine) -> None:
        self._reserved[engine.id], self._prompts[engine.id] = set(), 0
        engine.role = self.home[engine.id] = self._short_pool()
        self.flights.join(engine.id)
        self.drain()

    def lost(self, engine: int) -> None:
        super().lost(engine)
        self.home.pop(engine, None)
        for request in self._reserved.pop(engine, ()):
            self._decodes_at.pop(request, None)

    def _short_pool(self) -> Role:
        """The pool that a new engine, or one of unknown origin, belongs to."""
        return "Prefill" if list(self.home.values()).count("Prefill") < self.prefill else "Decode"

    def _of(self, role: Role) -> list[int]:
        return [key for key, engine in self.cluster.engines.items() if engine.role == role]

    def _mix(self, decision: Decision) -> Decision:
        assert decision.chosen is not None
        self.cluster.engines[decision.chosen].role = "Serve"
        return decision

    def _prompt_engine(self, request: Request, pool: Sequence[int]) -> Decision | None:
        if not pool:
            return None
        decision = self._fewest_pending(pool, "fewest pending tokens")
        assert decision.chosen is not None
        pending = self.flights[decision.chosen].tokens
        return None if pending and pending + request.prompt_tokens > MAX_PENDING_TOKENS else decision

    def _decode_engine(self, request: Request, pool: Sequence[int]) -> Decision | None:
        if not pool:
            return None
        decision = self._least_memory(pool, "least reserved memory")
        assert decision.chosen is not None
        engine = self.cluster.engines[decision.chosen]
        room = engine.total_blocks * engine.block_size - decision.scores[engine.id]
        return None if request.prompt_tokens + self.expected_output() >= room else decision

    def _fewest_pending(self, pool: Sequence[int], rule: str) -> Decision:
        return self.lowest({engine: float(self.flights[engine].tokens) for engine in pool}, rule, "pending tokens")

    def _least_memory(self, pool: Sequence[int], rule: str) -> Decision:
        memory = {engine: self.reserved_tokens(engine) for engine in pool}
        return self.lowest(memory, rule, "reserved tokens")

    def reserved_tokens(self, engine: int) -> float:
        """KV that the requests which decode or will decode on `engine` are taken to need in the end."""
        return self._prompts[engine] + len(self._reserved[engine]) * self.expected_output()

    def expected_output(self) -> float:
        """Tokens that an answer is taken to have."""
        return self.output or (self._answered / len(self._answers) if self._answers else FIRST_GUESS_TOKENS)

    def _reserve(self, request: Request, engine: int) -> None:
        self._release(request)
        self._decodes_at[request.id] = engine
        self._reserved[engine].add(request.id)
        self._prompts[engine] += request.prompt_tokens

    def _release(self, request: Request) -> None:
        engine = self._decodes_at.pop(request.id, None)
        if engine is not None:
            self._reserved[engine].discard(request.id)
            self._prompts[engine] -= request.prompt_tokens
