"""Which replica gets the next request: the one predicted to bring its first token soonest.

The prediction adds up what stands between the request and its first token there: the prompts queued before it, the
part of its own prompt that is not in the prefix cache, and the step that yields the token; where every seat is taken,
also the wait for one. What this gateway has just sent is counted until the replica's own reports can contain it, so
that a burst does not all go to whoever looked idle a moment ago.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coxswain_protocol.messages import EngineInfo, Load, StepEvent
from coxswain_scheduler.batching import block_hashes
from coxswain_scheduler.costs import StepCost
from coxswain_scheduler.prefixes import PrefixIndex

_REPORTS_TO_REFLECT = 2
"""A report already under way when the request was sent cannot contain it; the one after it does."""
_USUAL_OUTPUT = 128
"""Tokens that a running sequence is taken to have before it frees its seat, when nothing better is known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted seconds to the first token on one member, by cause."""

    member: str
    queue: float
    prefill: float
    step: float
    cached: int
    prompt: int

    @property
    def ttft(self) -> float:
        """Seconds from now to the first token."""
        return self.queue + self.prefill + self.step


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a request goes, and what the choice was made from."""

    chosen: Estimate
    runner_up: Estimate | None
    candidates: int

    @property
    def member(self) -> str:
        """Name of the member chosen."""
        return self.chosen.member

    def explain(self) -> str:
        """One line for logs and people."""
        e = self.chosen
        line = (
            f"{e.member}: first token in {e.ttft * 1e3:.1f} ms = queue {e.queue * 1e3:.1f}"
            f" + prefill {e.prefill * 1e3:.1f} ({e.prompt - e.cached} of {e.prompt} tokens) + step {e.step * 1e3:.1f}"
        )
        if self.runner_up is None:
            return f"{line}; the only one of {self.candidates}"
        return f"{line}; next best of {self.candidates} {self.runner_up.member} {self.runner_up.ttft * 1e3:.1f} ms"


@dataclass(slots=True)
class _Sent:
    tokens: int
    reports: int = 0


class _Seat:
    """One engine as dispatch sees it. What does not depend on the request is worked out once per change of load."""

    __slots__ = ("_beside", "_fresh", "_queue", "_step", "block_size", "cost", "load", "sent", "sent_tokens", "slots")

    def __init__(self, info: EngineInfo, cost: StepCost) -> None:
        self.block_size = info.block_size
        self.slots = max(1, info.max_num_seqs)
        self.cost = cost
        self.load = Load()
        self.sent: dict[str, _Sent] = {}
        self.sent_tokens = 0
        self._fresh = False
        self._queue = self._step = self._beside = 0.0

    def reported(self, load: Load) -> None:
        self.load = load
        self._fresh = False
        for request in [name for name, sent in self.sent.items() if sent.reports + 1 >= _REPORTS_TO_REFLECT]:
            self.settle(request)
        for sent in self.sent.values():
            sent.reports += 1

    def assign(self, request: str, tokens: int) -> None:
        self.sent[request] = _Sent(tokens)
        self.sent_tokens += tokens
        self._fresh = False

    def settle(self, request: str) -> None:
        sent = self.sent.pop(request, None)
        if sent is not None:
            self.sent_tokens -= sent.tokens
            self._fresh = False

    def ttft(self, uncached: int) -> float:
        """Predicted seconds to the first token of a prompt with so many tokens to compute."""
        if not self._fresh:
            self._refresh()
        return self._queue + self._step + self.cost.prefill(uncached, step_seconds=self._beside)

    def estimate(self, member: str, prompt: int, cached: int) -> Estimate:
        """The same by cause. To be asked after `ttft`."""
        prefill = self.cost.prefill(prompt - cached, step_seconds=self._beside)
        return Estimate(member, self._queue, prefill, self._step, cached, prompt)

    def _refresh(self) -> None:
        load, cost = self.load, self.cost
        decoding = min(load.running, self.slots)
        self._beside = cost.predict(0, decoding, load.context)
        self._step = cost.predict(0, decoding + 1, load.context)
        self._queue = cost.prefill(load.pending_prefill + self.sent_tokens, step_seconds=self._beside)
        excess = load.running + load.waiting + len(self.sent) + 1 - self.slots
        if excess > 0:
            self._queue += excess * _USUAL_OUTPUT * self._step / self.slots
        self._fresh = True


class Dispatcher:
    """Loads, costs and prefixes of all engines, and the choice among them. Deterministic for a given `rng`."""

    def __init__(self, *, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._seats: dict[str, _Seat] = {}
        self._block_sizes: set[int] = set()
        self._costs: dict[tuple[str, str, str], StepCost] = {}
        self.prefixes = PrefixIndex()

    def add(self, member: str, info: EngineInfo) -> None:
        """An engine that may be chosen from now on. Engines of one kind share what is learnt of their steps."""
        kind = (info.engine, info.accelerator, info.model)
        cost = self._costs.setdefault(kind, StepCost(floor_seconds=info.step_floor_seconds))
        self._seats[member] = _Seat(info, cost)
        self._block_sizes.add(info.block_size)

    def drop(self, member: str) -> None:
        """Forget an engine and what it holds."""
        self._seats.pop(member, None)
        self.prefixes.drop(member)

    def reported(self, member: str, load: Load) -> None:
        """The engine's own account of its load."""
        if (seat := self._seats.get(member)) is not None:
            seat.reported(load)

    def stepped(self, member: str, event: StepEvent) -> None:
        """A step to learn from."""
        if (seat := self._seats.get(member)) is not None:
            seat.cost.observe(event)

    def assigned(self, member: str, request: str, tokens: int) -> None:
        """A request with `tokens` uncached prompt tokens has just been sent."""
        self._seats[member].assign(request, tokens)

    def settled(self, member: str, request: str) -> None:
        """The request has begun, ended or been withdrawn there: it no longer counts as just sent."""
        if (seat := self._seats.get(member)) is not None:
            seat.settle(request)

    def choose(self, candidates: Iterable[str], tokens: Sequence[int]) -> Decision | None:
        """The candidate predicted to be first with a token after `tokens`, equals by lot; None without candidates."""
        names = list(candidates)
        if not names:
            return None
        prompt, hits = len(tokens), self._hits(tokens)
        predicted = {name: self._seats[name].ttft(prompt - hits.get(name, 0)) for name in names}
        best = min(predicted.values())
        equals = [name for name, ttft in predicted.items() if ttft == best]
        chosen = equals[self._rng.randrange(len(equals))]
        del predicted[chosen]
        second = min(predicted, key=predicted.__getitem__) if predicted else None
        return Decision(
            self._seats[chosen].estimate(chosen, prompt, hits.get(chosen, 0)),
            self._seats[second].estimate(second, prompt, hits.get(second, 0)) if second is not None else None,
            len(names),
        )

    def cost_errors(self) -> dict[tuple[str, str, str], float]:
        """Mean relative error of the step prediction, by (engine, accelerator, model)."""
        return {kind: cost.error for kind, cost in self._costs.items()}

    def _hits(self, tokens: Sequence[int]) -> dict[str, int]:
        """Tokens of the prompt that each member need not compute; the last one is always computed, for its logits."""
        found: dict[str, int] = {}
        for size in self._block_sizes:
            for member, blocks in self.prefixes.hits(block_hashes(tokens, block_size=size)).items():
                seat = self._seats.get(member)
                if seat is not None and seat.block_size == size:
                    found[member] = min(blocks * size, len(tokens) - 1)
        return found
