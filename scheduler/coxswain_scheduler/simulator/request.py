"""A request inside the simulator: what a policy may see, and behind it what only hindsight knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from coxswain_scheduler.batching import Sequence
from coxswain_scheduler.batching.runs import Name
from coxswain_scheduler.simulator.results import Outcome
from coxswain_scheduler.simulator.trace import TraceRequest

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine

Aside = Literal["Held", "Arriving", "Paused", "Leaving"]


class Fresh:
    """Names for blocks that no other request can have: what engines generate is random to everybody else."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def name(self) -> Name:
        """One below zero."""
        self._last -= 1
        return self._last


_FRESH: Final = Fresh()


class SimRequest:
    """Implements `interface.Request`."""

    places: frozenset[int] | None = None

    __slots__ = (
        "arrival",
        "at",
        "cached",
        "deadline",
        "ended",
        "failed",
        "first_token",
        "hashes",
        "hold",
        "id",
        "last_token",
        "moves",
        "note",
        "offered",
        "output_tokens",
        "priority",
        "prompt_tokens",
        "retries",
        "sequence",
        "settled",
        "shed",
        "tenant",
        "trace",
        "workflow",
    )

    def __init__(self, trace: TraceRequest, *, arrival: float, hashes: list[Name]) -> None:
        self.trace = trace
        self.id = trace.id
        self.arrival = arrival
        self.prompt_tokens = trace.prompt_tokens
        self.hashes = hashes
        self.priority = trace.priority
        self.deadline = None if trace.deadline is None else arrival + trace.deadline
        self.tenant = trace.tenant
        self.workflow = trace.workflow
        self.note: object = None
        self.output_tokens = trace.output_tokens
        self.settled = 0
        """Output tokens emitted by engines that it has left."""
        self.at: SimEngine | None = None
        self.sequence: SimSequence | None = None
        self.hold = False
        self.cached: int | None = None
        self.first_token: float | None = None
        self.last_token = arrival
        self.ended: float | None = None
        self.shed: str | None = None
        self.failed: str | None = None
        self.offered = False
        """Whether it is with the policy, in no engine."""
        self.moves = 0
        self.retries = 0

    @property
    def closed(self) -> bool:
        """Whether nothing more will come of it."""
        return self.ended is not None or self.shed is not None or self.failed is not None

    @property
    def engine(self) -> int | None:
        """Where it is queued or runs."""
        return None if self.at is None else self.at.id

    @property
    def emitted(self) -> int:
        """Output tokens seen so far."""
        if self.at is None or self.sequence is None:
            return self.settled
        return self.sequence.length - self.prompt_tokens + self.at.steps_of(self.sequence)

    def leave(self) -> None:
        """It is in no engine any more; what it has emitted stays emitted."""
        self.settled = self.emitted
        self.at = self.sequence = None
        self.hold = False

    def arrive_at(self, now: float) -> None:
        """A stage of a workflow: its time counts from here."""
        self.arrival = self.last_token = now
        if self.trace.deadline is not None:
            self.deadline = now + self.trace.deadline

    def outcome(self) -> Outcome:
        """What its client saw."""
        return Outcome(  # in its order: by keywords it takes three times as long
            self.id,
            self.arrival,
            self.prompt_tokens,
            self.output_tokens,
            self.emitted,
            self.priority,
            self.tenant,
            self.workflow,
            self.cached or 0,
            self.first_token,
            self.ended,
            self.shed,
            self.failed,
            self.moves,
            self.deadline,
        )


class SimSequence(Sequence):
    """A request's sequence in one engine: counted, with the names of the prompt's blocks from the trace."""

    __slots__ = ("_generated", "aside", "ends_at_step", "received", "request")

    def __init__(self, request: SimRequest, *, block_size: int, rank: float) -> None:
        super().__init__(
            str(request.id),
            prompt_len=request.prompt_tokens,
            output_len=request.settled,
            block_size=block_size,
            rank=rank,
        )
        self.request = request
        self.aside: Aside | None = None
        """Why it is set aside; None where it is not, or waits for nothing but a place."""
        self.ends_at_step = -1
        """The engine's decode step with which it will be complete, while it decodes."""
        self.received = False
        """Whether its prompt was computed in another engine."""
        self._hashes = request.hashes
        self._generated = False
        """Whether there are names of its own behind the prompt's, which are the request's until then."""

    @property
    def decodes(self) -> bool:
        """Whether it gets a token in every step."""
        return self.ends_at_step >= 0

    def name_as(self, other: SimSequence) -> None:
        """It is a copy of `other`: so are the blocks that `other` generated."""
        self._hashes = list(other._hashes)
        self._generated = True

    def hashes(self, end: int) -> list[Name]:
        """See `Sequence`."""
        if not self._generated and end > len(self._hashes):
            self._hashes = list(self._hashes)
            self._generated = True
        return super().hashes(end)

    def _hash(self, block: int) -> Name:
        return _FRESH.name()


class BlockNames:
    """Names of the prompts' full blocks, each part of the chunk of the trace that it lies in.

    An equal name is one object in all prompts, which takes less memory and is sooner seen to be equal.
    """

    def __init__(self, *, chunk_tokens: int, block_size: int) -> None:
        self._block_size = block_size
        self._per_chunk = chunk_tokens // block_size
        self._of: dict[int, list[Name]] = {}
        """By chunk."""

    def of(self, trace: TraceRequest) -> list[Name]:
        """None where the prompt shares nothing with any other."""
        names: list[Name] = []
        for chunk in trace.chunks:
            if chunk not in self._of:
                first = chunk * self._per_chunk
                self._of[chunk] = list(range(first, first + self._per_chunk))
            names += self._of[chunk]
        return names[: trace.prompt_tokens // self._block_size]
