"""The replicas as a policy sees them: what they last reported, and what was sent to them since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from librt.vecs import vec
from mypy_extensions import i64

from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member
from coxswain_protocol.messages import Load, StepEvent
from coxswain_scheduler.costs import StepCost
from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.interface import Role
from coxswain_scheduler.prefixes import Holders


class LiveRequest:
    """Implements `interface.Request`: one attempt to place a generation."""

    __slots__ = (
        "_output", "arrival", "cached", "engine", "generation", "held", "id", "names", "note", "over", "places",
        "priority", "prompt_tokens", "since",
    )  # fmt: skip

    deadline: float | None = None
    tenant = ""
    workflow = ""

    def __init__(
        self,
        id: int,  # noqa: A002
        generation: Generation,
        names: dict[int, vec[i64]],
        *,
        since: float,
    ) -> None:
        self.id = id
        self.generation = generation
        self.arrival = generation.created
        self.priority = generation.priority
        self.prompt_tokens = len(generation.log.prompt)
        self._output = generation.log.output
        self.since = since
        """When the policy was told of it."""
        self.names = names
        """Of its blocks, by their size."""
        self.places: frozenset[int] | None = None
        self.engine: int | None = None
        self.cached = 0
        """Tokens that the engine held when it was sent there."""
        self.held: Holders | None = None
        """What the engines held when the policy last asked."""
        self.note: object = None
        self.over = False
        """Ended or withdrawn: the policy may still have it in a queue."""

    @property
    def hashes(self) -> Sequence[int]:
        """See `interface.Request`."""
        return next((list(names) for names in self.names.values()), [])

    @property
    def emitted(self) -> int:
        return len(self._output)

    @property
    def tokens(self) -> int:
        """To be computed before its next token: prompt and output so far."""
        return self.prompt_tokens + self.emitted

    def may_go(self, engine: int) -> bool:
        """Whether it may go to that engine."""
        return self.places is None or engine in self.places


class Now:
    """The policy's time, in seconds: it stands still during a call to the policy."""

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now


class LiveEngine:
    """Implements `interface.Engine`: one member while it can be sent work.

    A request that was sent counts as waiting until a step can have taken it in: it reaches the engine while step n runs
    at the earliest, and is in step n + 1; an idle engine takes it into the next step.
    """

    def __init__(self, id: int, member: Member, timing: StepCost, *, seat: int, time: Now) -> None:  # noqa: A002
        info = member.info
        self.id = id
        self.member = member
        self.timing = timing
        self.seat = seat
        """Its number in the index of prefixes."""
        self.role: Role = "Serve"
        self.accelerator = info.accelerator
        self.total_blocks = info.num_blocks
        self.block_size = info.block_size
        self.max_num_seqs = info.max_num_seqs
        self.requests: list[LiveRequest] = []
        self.running = self.decoding = self.context = self.preemptions = 0
        self.free_blocks = info.num_blocks
        self._queued = self._prefill = 0
        """As it reports them; `waiting` and `pending_prefill` count what is on its way, too."""
        self._step_tokens = info.max_step_tokens
        self._time = time
        self._step = 0
        self._stepped_at = 0.0
        self._sent: dict[int, tuple[LiveRequest, int]] = {}
        """Requests that no report can contain yet, with the step that will."""

    @property
    def step_tokens(self) -> int:
        return self._step_tokens or self.timing.largest_prefill

    @property
    def waiting(self) -> int:
        return self._queued + len(self._sent)

    @property
    def pending_prefill(self) -> int:
        pending = self._prefill
        for request, _ in self._sent.values():
            pending += request.tokens - request.cached
        return pending

    @property
    def waiting_blocks(self) -> int:
        size = self.block_size
        blocks = self._prefill // size if self._queued else 0
        for request, _ in self._sent.values():
            blocks += -(-request.tokens // size)
        return blocks

    @property
    def busy_until(self) -> float:
        if not (self.running or self.waiting) or self._time.now <= self._stepped_at:
            return self._time.now
        prefill = min(self.pending_prefill, self.step_tokens)
        work = Work(prefill, prefill * (prefill + 1) // 2, self.decoding, self.context if self.decoding else 0)
        return max(self._time.now, self._stepped_at + self.timing.seconds(work))

    def sent(self, request: LiveRequest) -> None:
        """A request is on its way to it."""
        idle = not (self.running or self._queued or self._sent)
        self.requests.append(request)
        self._sent[request.id] = (request, self._step + (1 if idle else 2))

    def left(self, request: LiveRequest) -> None:
        """A request has ended here, or goes elsewhere."""
        self._sent.pop(request.id, None)
        if request in self.requests:
            self.requests.remove(request)

    def began(self, request: LiveRequest) -> None:
        """A request has its first token from here."""
        self._sent.pop(request.id, None)

    def reported(self, load: Load) -> bool:
        """Its own account of its load; whether that is another than the one before."""
        before = self.running, self._queued, self.decoding, self._prefill > 0
        self.running, self._queued, self.decoding = load.running, load.waiting, load.decoding
        self._prefill, self.context = load.pending_prefill, load.context
        self.free_blocks = load.free_blocks if load.total_blocks else self.total_blocks
        return before != (self.running, self._queued, self.decoding, self._prefill > 0)

    def stepped(self, event: StepEvent, load: Load) -> bool:
        """It has finished a step; whether its batch is another than before."""
        admitted = [request for request, step in self._sent.values() if step <= event.number]
        changed = self.reported(load) or bool(admitted or event.prefill_tokens or event.preemptions)
        self._step, self._stepped_at = event.number, self._time.now
        self.preemptions += event.preemptions
        self.timing.observe(event)
        for request in admitted:
            del self._sent[request.id]
        return changed

    def predicted_wait(self) -> float:
        """Seconds until what it has to prefill is computed."""
        return self.timing.prefill(self.pending_prefill, step_seconds=self._decode_step())

    def _decode_step(self) -> float:
        return self.timing.seconds(Work(decodes=self.decoding + 1, context=self.context))


def least_loaded(request: LiveRequest, engines: Mapping[int, LiveEngine]) -> LiveEngine:
    """Of those that it may go to: a waiting request always has one."""
    candidates = [engine for engine in engines.values() if request.may_go(engine.id)]
    return min(candidates, key=lambda engine: (engine.waiting, engine.pending_prefill, engine.running, engine.id))
