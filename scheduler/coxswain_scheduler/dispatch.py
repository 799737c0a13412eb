"""Which replica gets the next request: the one predicted to bring its first token soonest, at least cost to the others.

The prediction adds up what stands between the request and its first token there: the prompts queued before it, the
part of its own prompt that is not in the prefix cache, and the step that yields the token; where every seat is taken,
also the wait for one. What this gateway has just sent is counted until the replica's own reports can contain it, so
that a burst does not all go to whoever looked idle a moment ago; and its prompt counts as held there until it begins,
so that a burst of one prefix goes together.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coxswain_protocol.messages import EngineInfo, Load, StepEvent
from coxswain_scheduler.batching import block_hashes
from coxswain_scheduler.costs import StepCost
from coxswain_scheduler.decision import Decision, Estimate
from coxswain_scheduler.prefixes import PrefixIndex
from coxswain_scheduler.shortlist import Shortlist
from coxswain_scheduler.underway import Underway

__all__ = ["Decision", "Dispatcher", "Estimate", "Prompt"]

_REPORTS_TO_REFLECT = 2
"""A report already under way when the request was sent cannot contain it; the one after it does."""
_USUAL_OUTPUT = 128
"""Tokens that a running sequence is taken to have before it frees its seat, when nothing better is known."""
_READ_AFTER = 16
"""Steps of a kind of engine after which its cost is asked anew for what a prompt token takes."""
_THRIFT = 0.1
"""Of two engines equally soon, the one that computes less: see `Shortlist`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be computed before the first token: so many tokens, and their block hashes by block size."""

    tokens: int
    hashes: Mapping[int, Sequence[int]] = field(default_factory=dict)


class _Kind:
    """Engines that share what is learnt of their steps. What a prompt token costs is kept for a while."""

    __slots__ = ("_unread", "steps", "token_seconds", "token_steps")

    def __init__(self, cost: StepCost) -> None:
        self.steps = cost
        self._read()

    def observe(self, event: StepEvent) -> None:
        self.steps.observe(event)
        self._unread += 1
        if self._unread >= _READ_AFTER:
            self._read()

    def prefill_work(self, prompt: int, cached: int) -> tuple[float, float]:
        """Steps are counted in parts, for the engine packs several prompts into one."""
        tokens = prompt - cached
        return tokens * self.token_seconds, tokens * self.token_steps

    def _read(self) -> None:
        budget = self.steps.largest_prefill
        self.token_seconds = self.steps.prefill(budget, step_seconds=0.0) / budget
        self.token_steps = 1.0 / budget
        self._unread = 0


class _Sent:
    """A request not yet in the member's reports."""

    __slots__ = ("reports", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.reports = 0


class _Member:
    """One engine as its reports and what was sent to it since have it."""

    __slots__ = ("block_size", "kind", "load", "number", "pace", "sent", "sent_tokens", "slots", "step")

    def __init__(self, info: EngineInfo, kind: _Kind, number: int) -> None:
        self.block_size = info.block_size
        self.slots = max(1, info.max_num_seqs)
        self.kind = kind
        self.number = number
        self.sent: dict[str, _Sent] = {}
        self.sent_tokens = 0
        self.reported(Load())

    def reported(self, load: Load) -> None:
        self.load = load
        for request in [name for name, sent in self.sent.items() if sent.reports + 1 >= _REPORTS_TO_REFLECT]:
            self.reflect(request)
        for sent in self.sent.values():
            sent.reports += 1
        decoding, predict = min(load.running, self.slots), self.kind.steps.predict
        self.pace = predict(0, decoding, load.context)
        self.step = predict(0, decoding + 1, load.context)

    def assign(self, request: str, tokens: int) -> None:
        self.sent[request] = _Sent(tokens)
        self.sent_tokens += tokens

    def reflect(self, request: str) -> bool:
        sent = self.sent.pop(request, None)
        if sent is not None:
            self.sent_tokens -= sent.tokens
        return sent is not None

    def queue(self) -> float:
        """Seconds until the prompts before are computed and there is a seat."""
        load = self.load
        kind = self.kind
        queue = (load.pending_prefill + self.sent_tokens) * (kind.token_seconds + kind.token_steps * self.pace)
        excess = load.running + load.waiting + len(self.sent) + 1 - self.slots
        return queue + excess * _USUAL_OUTPUT * self.step / self.slots if excess > 0 else queue


class Dispatcher:
    """Loads, costs and prefixes of all engines, and the choice among them. Deterministic for a given `rng`."""

    def __init__(self, *, rng: random.Random | None = None, thrift: float = _THRIFT) -> None:
        self._shortlist: Shortlist[str] = Shortlist(rng=rng, thrift=thrift)
        self._members: dict[str, _Member] = {}
        self._block_sizes: tuple[int, ...] = ()
        self._kinds: dict[tuple[str, str, str], _Kind] = {}
        self._underway = Underway()
        self.prefixes = PrefixIndex()
        """By the numbers that `number` gives."""

    def add(self, member: str, info: EngineInfo) -> None:
        """An engine that may be chosen from now on. Engines of one kind share what is learnt of their steps."""
        self.drop(member)
        name = (info.engine, info.accelerator, info.model)
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind(StepCost(floor_seconds=info.step_floor_seconds))
        self._members[member] = known = _Member(info, kind, self._shortlist.add(member, kind))
        self._refresh(member, known)
        self._block_sizes = tuple(sorted({each.block_size for each in self._members.values()}))

    def drop(self, member: str) -> None:
        """Forget an engine and what it holds."""
        gone = self._members.pop(member, None)
        if gone is not None:
            self._underway.drop(gone.number)
            self._shortlist.drop(member)
            self.prefixes.drop(gone.number)

    def reported(self, member: str, load: Load) -> None:
        """The engine's own account of its load."""
        if (known := self._members.get(member)) is not None:
            known.reported(load)
            self._refresh(member, known)

    def stepped(self, member: str, event: StepEvent) -> None:
        """A step to learn from."""
        if (known := self._members.get(member)) is not None:
            known.kind.observe(event)

    def stored(self, member: str, hashes: Sequence[int]) -> None:
        """The engine can now reuse these blocks, given in chain order."""
        if (known := self._members.get(member)) is not None:
            self.prefixes.stored(known.number, hashes)

    def removed(self, member: str, hashes: Sequence[int]) -> None:
        """The engine has given these blocks up."""
        if (known := self._members.get(member)) is not None:
            self.prefixes.removed(known.number, hashes)

    def holds(self, member: str, hashes: Sequence[int]) -> None:
        """The engine holds exactly these blocks."""
        if (known := self._members.get(member)) is not None:
            self.prefixes.replace(known.number, hashes)

    def prompt(self, tokens: Sequence[int]) -> Prompt:
        """Token ids as the other methods want them."""
        return Prompt(len(tokens), {size: block_hashes(tokens, block_size=size) for size in self._block_sizes})

    def mask(self, members: Iterable[str]) -> int:
        """A set of members, to choose from it more than once. Void as soon as one is added or dropped."""
        return self._shortlist.mask(members)

    def choose(self, prompt: Prompt, *, among: Iterable[str] | int | None = None) -> Decision[str] | None:
        """The least costly member, equals by lot; None without members. `among`: names or a `mask`; None is all."""
        if not (among is None or isinstance(among, int)):
            among = self._shortlist.mask(among)
        if len(self._block_sizes) > 1:
            return self._choose_of_sizes(prompt, among)
        hashes = next(iter(prompt.hashes.values()), ())
        return self._shortlist.choose(
            prompt.tokens,
            self.prefixes.levels(hashes),
            block_size=self._block_sizes[0] if self._block_sizes else 1,
            underway=self._underway.alike(hashes),
            among=among,
        )

    def assigned(self, member: str, request: str, tokens: int, prompt: Prompt | None = None) -> None:
        """A request with `tokens` uncached tokens of its `prompt` has just been sent. KeyError if unknown."""
        known = self._members[member]
        known.assign(request, tokens)
        if prompt is not None:
            held = (prompt.tokens - tokens) // known.block_size
            self._underway.add(request, known.number, prompt.hashes.get(known.block_size, ()), held=held)
        self._refresh(member, known)

    def dispatch(
        self, request: str, prompt: Prompt, *, among: Iterable[str] | int | None = None
    ) -> Decision[str] | None:
        """`choose`, and take it as sent there."""
        decision = self.choose(prompt, among=among)
        if decision is not None:
            self.assigned(decision.member, request, decision.uncached, prompt)
        return decision

    def settled(self, member: str, request: str) -> None:
        """The request has begun, ended or been withdrawn there: it no longer counts as just sent."""
        known = self._members.get(member)
        if known is not None:
            self._underway.settle(request)
            if known.reflect(request):
                self._refresh(member, known)

    def cost_errors(self) -> dict[tuple[str, str, str], float]:
        """Mean relative error of the step prediction, by (engine, accelerator, model)."""
        return {name: kind.steps.error for name, kind in self._kinds.items()}

    def _refresh(self, name: str, member: _Member) -> None:
        self._shortlist.update(name, queue=member.queue(), step=member.step, pace=member.pace)

    def _choose_of_sizes(self, prompt: Prompt, among: int | None) -> Decision[str] | None:
        """The same in tokens: hashes of blocks of one size name no blocks of another."""
        levels, underway = [], []
        for size, hashes in prompt.hashes.items():
            levels += [(depth * size, mask) for depth, mask in self.prefixes.levels(hashes)]
            underway += [(depth * size, mask) for depth, mask in self._underway.alike(hashes)]
        return self._shortlist.choose(prompt.tokens, sorted(levels, reverse=True), underway=underway, among=among)
