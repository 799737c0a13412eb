"""The gateway's cluster as clients and replicas know it: by what they tell it, without sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coxswain_gateway.cluster import LiveCluster
from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member
from coxswain_gateway.token_log import TokenLog
from coxswain_protocol.messages import Load, Sampling, StepEvent
from coxswain_scheduler.interface import Objectives, Policy
from coxswain_scheduler.prefixes import names

BLOCK = 64


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens, and the hashes of their full blocks."""

    tokens: int
    hashes: Sequence[int]


class _Nobody:
    """Listens."""

    def advanced(self) -> None:
        """See `Listener`."""


_NOBODY = _Nobody()


class Asked(Generation):
    """A generation whose hashes are ready."""

    def __init__(self, number: int, prompt: Prompt, now: float) -> None:
        log = TokenLog(str(number), (0,) * prompt.tokens, Sampling(seed=0, max_tokens=256))
        super().__init__(log, _NOBODY, tokenizer="t", now=now)
        self.number = number
        self.prompt = prompt


class Gateway:
    """A cluster and its clock. `submit` hears where a request is sent, once the cluster has done its own part."""

    def __init__(self, policy: Policy, submit: Callable[[int, Prompt, Member], None] | None = None) -> None:
        self.now = 0.0
        self.asked: dict[int, Asked] = {}
        """Those that have not ended."""
        self.cluster = LiveCluster(
            policy,
            objectives=Objectives(),
            clock=lambda: self.now,
            submit=self._submit,
            refuse=self._refuse,
            review=lambda: None,
        )
        self._everywhere: frozenset[int] = frozenset()
        self._submitted: list[Asked] = []
        self._listener = submit

    def tell(self, now: float, what: str, told: tuple[Any, ...]) -> None:
        """Call one of the methods below, at that time."""
        self.now = now
        getattr(self, what)(*told)
        for asked in self._submitted:
            if self._listener is not None and asked.member is not None:
                self._listener(asked.number, asked.prompt, asked.member)
        self._submitted.clear()

    def joined(self, member: Member, load: Load) -> None:
        """A replica is there, and can be sent work."""
        self.cluster.add(member)
        self.cluster.open(member)
        self.cluster.reported(member, load)
        self._everywhere = frozenset(self.cluster.engines)

    def arrived(self, number: int, prompt: Prompt) -> None:
        """A request."""
        asked = self.asked[number] = Asked(number, prompt, self.now)
        self.cluster.arrived(asked, self._everywhere, {BLOCK: names(prompt.hashes)})

    def began(self, number: int) -> None:
        """Its first token."""
        self.cluster.began(self.asked[number])

    def ended(self, number: int, member: Member, load: Load) -> None:
        """Its last token."""
        self.cluster.reported(member, load)
        self.cluster.ended(self.asked.pop(number))

    def stepped(self, member: Member, event: StepEvent, load: Load) -> None:
        """A step of a replica's."""
        if self.cluster.stepped(member, event, load):
            self.cluster.changed(member)

    def stored(self, member: Member, hashes: Sequence[int]) -> None:
        """It can reuse these blocks."""
        self.cluster.roster.stored(member, hashes)

    def removed(self, member: Member, hashes: Sequence[int]) -> None:
        """It has given these up."""
        self.cluster.roster.removed(member, hashes)

    def tick(self) -> None:
        """Time passes."""
        self.cluster.tick()

    def _submit(self, generation: Generation, member: Member) -> None:
        assert isinstance(generation, Asked)
        generation.member = member
        self._submitted.append(generation)

    def _refuse(self, generation: Generation, reason: str) -> None:
        assert isinstance(generation, Asked)
        del self.asked[generation.number]
