"""The fleet as a policy's cluster: what it is told, what it sees, and what it may do.

Requests that wait are the policy's, and no request depends on its good will: one that is over is never sent, one that
may go to certain engines only goes to one of those, and one that an engine had already is not refused because that
engine died. Every gateway has a policy of its own; of the others it sees what they load the engines with.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import NoReturn

from coxswain_gateway.engines import LiveEngine, LiveRequest, Now
from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member
from coxswain_protocol.messages import Load, StepEvent
from coxswain_scheduler.batching import block_hashes
from coxswain_scheduler.costs import StepCost
from coxswain_scheduler.policies.interface import Objectives, Policy, Request
from coxswain_scheduler.prefixes import Holders, PrefixIndex

log = logging.getLogger(__name__)

LONGEST_IDLE_SECONDS = 0.5
"""A request that has waited for longer goes to an engine that idles: what the policy waits for is late, or hangs."""

Kind = tuple[str, str, str]
"""Engine, accelerator and model: what is learnt of the steps of one holds for all of a kind."""


class LiveCluster:
    """Implements `policies.interface.Cluster`.

    `submit` sends a generation to a member, `refuse` ends it with a 429, and `review` looks anew where those that wait
    may go.
    """

    kv_bytes_per_token = 0
    link_bytes_per_second = 0.0
    """Engines cannot hand KV to each other: a request decodes where it was prefilled."""
    can_pause = False
    """What an engine was given it computes: batch work is held back before it is sent, not after."""

    def __init__(
        self,
        policy: Policy,
        *,
        objectives: Objectives,
        clock: Callable[[], float],
        submit: Callable[[Generation, Member], None],
        refuse: Callable[[Generation, str], None],
        review: Callable[[], None],
    ) -> None:
        self.policy = policy
        self.objectives = objectives
        self.engines: dict[int, LiveEngine] = {}
        self.prefixes = PrefixIndex()
        """By the engines' seats."""
        self.waiting: dict[int, LiveRequest] = {}
        """With the policy, not sent anywhere."""
        self._clock = clock
        self._submit = submit
        self._refuse = refuse
        self._review = review
        self._of_member: dict[str, LiveEngine] = {}
        self._seats: dict[int, LiveEngine] = {}
        self._seat_of: dict[int, int] = {}
        self._engine_in: dict[int, int] = {}
        self._masks: dict[int, int] = {}
        """Seats of the engines with blocks of a size."""
        self._costs: dict[Kind, StepCost] = {}
        self._requests = count()
        self._ids = count()
        self._ghosts: list[LiveRequest] = []
        self._time = Now(clock())
        self._tick_at = 0.0
        policy.begin(self)

    # What happens

    def add(self, member: Member) -> None:
        """A replica that has connected; `open` lets it be sent work."""
        self.drop(member)
        seat = next(number for number in count() if number not in self._seats)
        engine = LiveEngine(next(self._ids), member, self._cost(member), seat=seat, time=self._time)
        self._of_member[member.key] = self._seats[seat] = engine
        self._masks[engine.block_size] = self._masks.get(engine.block_size, 0) | 1 << seat

    def open(self, member: Member) -> None:
        """It can be sent work."""
        engine = self._of_member.get(member.key)
        if engine is not None and engine.id not in self.engines:
            self._advance()
            self.engines[engine.id] = engine
            self._seat_of[engine.id], self._engine_in[engine.seat] = engine.seat, engine.id
            self._review()
            self.policy.joined(engine)

    def close(self, member: Member) -> None:
        """Nothing new goes there; what runs there may go on."""
        engine = self._of_member.get(member.key)
        if engine is not None and self.engines.pop(engine.id, None) is not None:
            del self._seat_of[engine.id], self._engine_in[engine.seat]
            self._advance()
            self._review()
            self.policy.lost(engine.id)

    def drop(self, member: Member) -> None:
        """It is gone, with what it held. Its requests are to be placed anew."""
        self.close(member)
        engine = self._of_member.pop(member.key, None)
        if engine is not None:
            del self._seats[engine.seat]
            self._masks[engine.block_size] ^= 1 << engine.seat
            self.prefixes.drop(engine.seat)

    def engine_of(self, member: Member) -> int | None:
        """The engine of a member that can be sent work."""
        engine = self._of_member.get(member.key)
        return None if engine is None or engine.id not in self.engines else engine.id

    def arrived(self, generation: Generation, places: frozenset[int]) -> None:
        """Place a generation, now or later, on one of these engines (at least one)."""
        self._advance()
        self.policy.arrived(self._waiting(generation, places))

    def constrain(self, request: LiveRequest, places: frozenset[int]) -> None:
        """A waiting request may go to these engines (at least one)."""
        request.places = None if len(places) == len(self.engines) else places

    def began(self, generation: Generation) -> None:
        """Its first token from where it is."""
        request = generation.request
        if request is not None and (engine := self._engine(request)) is not None:
            engine.began(request)

    def ended(self, generation: Generation, *, moves: bool = False) -> None:
        """It has ended; or `moves`, and is to be placed anew: of the requests of a lost engine the policy knows."""
        request, generation.request = generation.request, None
        if request is None:
            return
        if (engine := self._engine(request)) is not None:
            engine.left(request)
        self.waiting.pop(request.id, None)
        request.over = True
        if not moves or request.engine is None or request.engine in self.engines:
            self._advance()
            self.policy.ended(request)
        request.note = None  # it names the request: let both go without the garbage collector

    def reported(self, member: Member, load: Load) -> None:
        """The replica's own account of its load, between two steps."""
        engine = self._of_member.get(member.key)
        if engine is not None and engine.reported(load):
            self.changed(member)

    def stepped(self, member: Member, event: StepEvent, load: Load) -> bool:
        """A step to learn from. Whether it `changed` the batch: to be told when its tokens are dealt with."""
        engine = self._of_member.get(member.key)
        self._advance()
        return engine is not None and engine.stepped(event, load)

    def changed(self, member: Member) -> None:
        """The replica's batch has changed, or what it may be given."""
        engine = self._of_member.get(member.key)
        if engine is not None and engine.id in self.engines:
            self._advance()
            self.policy.stepped(engine)

    def stored(self, member: Member, hashes: Iterable[int]) -> None:
        """The replica can now reuse these blocks, given in chain order."""
        if (engine := self._of_member.get(member.key)) is not None:
            self.prefixes.stored(engine.seat, tuple(hashes))

    def removed(self, member: Member, hashes: Iterable[int]) -> None:
        """The replica has given these blocks up."""
        if (engine := self._of_member.get(member.key)) is not None:
            self.prefixes.removed(engine.seat, tuple(hashes))

    def holds(self, member: Member, hashes: Iterable[int]) -> None:
        """The replica holds exactly these blocks."""
        if (engine := self._of_member.get(member.key)) is not None:
            self.prefixes.replace(engine.seat, tuple(hashes))

    def tick(self) -> None:
        """Let time pass; to be called more often than the policy's period."""
        self._rescue()
        period = self.policy.period
        if period is None or self._clock() < self._tick_at:
            return
        self._advance()
        self._tick_at = self.now + period
        self.policy.tick()

    def predicted_wait(self) -> float | None:
        """Seconds after which the soonest engine has computed what it has; None without engines."""
        return min((engine.predicted_wait() for engine in self.engines.values()), default=None)

    def cost_errors(self) -> dict[Kind, float]:
        """Mean relative error of the predicted step, by kind of engine."""
        return {kind: cost.error for kind, cost in self._costs.items()}

    # What a policy sees and may do

    @property
    def now(self) -> float:
        return self._time.now

    def cached(self, request: Request, engine: int) -> int:
        return self.holders(request).get(engine, 0)

    def holders(self, request: Request) -> Mapping[int, int]:
        request = _live(request)
        levels: list[tuple[int, int]] = []
        last, several = request.tokens - 1, len(self._masks) > 1  # the last token is always computed
        for size, hashes in request.by_size.items():
            most, own = last // size, self._masks[size]
            for depth, mask in self.prefixes.levels(hashes):
                levels.append((min(depth, most) * size, mask & own if several else mask))
        if several:
            levels.sort(reverse=True)
        request.held = Holders(levels, seats=self._seat_of, engines=self._engine_in)
        return request.held

    def dispatch(self, request: Request, engine: int, *, rank: float = 0.0, hold: bool = False) -> None:
        """Send it. `rank` changes nothing, as engines take what they get in order, and neither does `hold`: it decodes
        where it was prefilled."""
        request = _live(request)
        if request.over:
            self._ghosts.append(request)
            return
        if request.engine is not None:
            raise ValueError(f"request {request.id} has been dispatched")
        self._send(request, self._permitted(request, engine))

    def shed(self, request: Request, reason: str) -> None:
        request = _live(request)
        if request.over:
            return
        if request.emitted:
            raise ValueError(f"request {request.id} has emitted tokens: it can no longer be refused")
        if request.generation.log.attempt:
            self._send(request, self._least_loaded(request))
            return
        request.over = True
        self.waiting.pop(request.id, None)
        request.generation.request = None
        self._refuse(request.generation, reason)

    def take_back(self, request: Request) -> None:
        self._cannot("withdraw a request from an engine")

    def place(self, request: Request, engine: int) -> None:
        self._cannot("hand KV over")

    def move(self, request: Request, engine: int) -> None:
        self._cannot("migrate a request live")

    def pause(self, request: Request) -> None:
        self._cannot("pause a request")

    def resume(self, request: Request) -> None:
        self._cannot("resume a request")

    def limit(self, engine: int, *, step_tokens: int) -> None:
        self._cannot("change the size of a step")

    def start(self, accelerator: str | None = None) -> None:
        self._cannot("start an engine")

    def stop(self, engine: int) -> None:
        self._cannot("stop an engine")

    # Parts

    def _waiting(self, generation: Generation, places: frozenset[int] | None) -> LiveRequest:
        request = LiveRequest(next(self._requests), generation, self._hashes(generation), since=self.now)
        generation.request = self.waiting[request.id] = request
        if places is not None:
            self.constrain(request, places)
        return request

    def _rescue(self) -> None:
        """Let engines that idle take what has waited for too long. To the policy they are like another gateway's."""
        for request in list(self.waiting.values()):
            if self._clock() - request.since < LONGEST_IDLE_SECONDS:
                return
            engine = self._least_loaded(request) if request.id in self.waiting else None
            if engine is None or engine.running or engine.waiting:
                continue
            generation, places = request.generation, request.places
            self.ended(generation, moves=True)
            self._send(self._waiting(generation, places), engine)

    def _advance(self) -> None:
        """The time of the next call to the policy, which is first told again of what it sent though it was over."""
        self._time.now = self._clock()
        while self._ghosts:
            self.policy.ended(self._ghosts.pop())

    def _hashes(self, generation: Generation) -> dict[int, Sequence[int]]:
        """By size of block. In arrays, which the garbage collector does not look into."""
        tokens, sizes = (*generation.log.prompt, *generation.log.output), sorted(self._masks)
        return {size: array("Q", block_hashes(tokens, block_size=size)) for size in sizes if self._masks[size]}

    def _engine(self, request: LiveRequest) -> LiveEngine | None:
        member = request.generation.member
        return None if member is None else self._of_member.get(member.key)

    def _cost(self, member: Member) -> StepCost:
        info = member.info
        kind = (info.engine, info.accelerator, info.model)
        if kind not in self._costs:
            self._costs[kind] = StepCost(floor_seconds=info.step_floor_seconds)
        return self._costs[kind]

    def _permitted(self, request: LiveRequest, engine: int) -> LiveEngine:
        allowed = request.places is None or engine in request.places
        chosen = self.engines.get(engine) if allowed else None
        return chosen or self._least_loaded(request)

    def _least_loaded(self, request: LiveRequest) -> LiveEngine:
        """Of those that it may go to: a waiting request always has one."""
        places = self.engines if request.places is None else request.places
        candidates = [self.engines[engine] for engine in places if engine in self.engines]
        return min(candidates, key=lambda engine: (engine.waiting, engine.pending_prefill, engine.running, engine.id))

    def _send(self, request: LiveRequest, engine: LiveEngine) -> None:
        del self.waiting[request.id]
        request.engine = engine.id
        held = self.holders(request) if request.held is None else request.held
        request.cached = held.get(engine.id, 0)
        request.held = None
        engine.sent(request)
        if log.isEnabledFor(logging.DEBUG):
            where = {"request_id": request.generation.log.id, "replica": engine.member.replica}
            log.debug("dispatched: %s", self.policy.explain(request), extra=where)
        self._submit(request.generation, engine.member)

    @staticmethod
    def _cannot(what: str) -> NoReturn:
        raise NotImplementedError(f"engines cannot {what}")


def _live(request: Request) -> LiveRequest:
    """A policy hands back what it was given."""
    assert isinstance(request, LiveRequest)
    return request
