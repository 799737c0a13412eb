"""The fleet as a policy's cluster: what it is told, what it sees, and what it may do.

Requests that wait are the policy's, and no request depends on its good will: one that is over is never sent, one that
may go to certain engines only goes to one of those, and one that an engine had already is not refused because that
engine died. Every gateway has a policy of its own; of the others it sees what they load the engines with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Final

from coxswain_gateway.engines import LiveEngine, LiveRequest, Now, least_loaded
from coxswain_gateway.fixed import Fixed
from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member
from coxswain_gateway.roster import Names, Roster
from coxswain_protocol.messages import Load, StepEvent
from coxswain_scheduler.interface import Objectives, Policy, Request
from coxswain_scheduler.prefixes import Holders

log = logging.getLogger(__name__)

LONGEST_IDLE_SECONDS: Final = 0.5
"""A request that has waited for longer goes to an engine that idles: what the policy waits for is late, or hangs."""


class LiveCluster(Fixed):
    """Implements `interface.Cluster`.

    `submit` sends a generation to a member, `refuse` ends it with a 429, and `review` looks anew where those that wait
    may go.
    """

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
        """Those that can be sent work."""
        self.waiting: dict[int, LiveRequest] = {}
        """With the policy, not sent anywhere."""
        self._clock = clock
        self._submit = submit
        self._refuse = refuse
        self._review = review
        self._requests = count()
        self._ghosts: list[LiveRequest] = []
        self._time = Now(clock())
        self.roster = Roster(self._time)
        """All that are connected."""
        self._tick_at = 0.0
        self._explains = log.isEnabledFor(logging.DEBUG)
        """As of the last tick: to ask for every request would take as long as to note where it goes."""
        policy.begin(self)

    # What happens

    def add(self, member: Member) -> None:
        """A replica that has connected; `open` lets it be sent work."""
        self.drop(member)
        self.roster.add(member)

    def open(self, member: Member) -> None:
        """It can be sent work."""
        engine = self.roster.get(member)
        if engine is not None and engine.id not in self.engines:
            self._advance()
            self.engines[engine.id] = engine
            self.roster.open(engine)
            self._review()
            self.policy.joined(engine)

    def close(self, member: Member) -> None:
        """Nothing new goes there; what runs there may go on."""
        engine = self.roster.get(member)
        if engine is not None and self.engines.pop(engine.id, None) is not None:
            self.roster.close(engine)
            self._advance()
            self._review()
            self.policy.lost(engine.id)

    def drop(self, member: Member) -> None:
        """It is gone, with what it held. Its requests are to be placed anew."""
        self.close(member)
        self.roster.drop(member)

    def engine_of(self, member: Member) -> int | None:
        """The engine of a member that can be sent work."""
        engine = self.roster.get(member)
        return None if engine is None or engine.id not in self.engines else engine.id

    def arrived(self, generation: Generation, places: frozenset[int], names: Names | None = None) -> None:
        """Place a generation, now or later, on one of these engines (at least one). `names`: of its blocks, where they
        are known already."""
        self._advance()
        self.policy.arrived(self._waiting(generation, places, names))

    def constrain(self, request: LiveRequest, places: frozenset[int]) -> None:
        """A waiting request may go to these engines (at least one)."""
        request.places = None if len(places) == len(self.engines) else places

    def began(self, generation: Generation) -> None:
        """Its first token from where it is."""
        request = generation.note
        if isinstance(request, LiveRequest) and (engine := self._engine(request)) is not None:
            engine.began(request)

    def ended(self, generation: Generation, *, moves: bool = False) -> None:
        """It has ended; or `moves`, and is to be placed anew: of the requests of a lost engine the policy knows."""
        request, generation.note = generation.note, None
        if not isinstance(request, LiveRequest):
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
        engine = self.roster.get(member)
        if engine is not None and engine.reported(load):
            self.changed(member)

    def stepped(self, member: Member, event: StepEvent, load: Load) -> bool:
        """A step to learn from. Whether it `changed` the batch: to be told when its tokens are dealt with."""
        engine = self.roster.get(member)
        self._advance()
        return engine is not None and engine.stepped(event, load)

    def changed(self, member: Member) -> None:
        """The replica's batch has changed, or what it may be given."""
        engine = self.roster.get(member)
        if engine is not None and engine.id in self.engines:
            self._advance()
            self.policy.stepped(engine)

    def tick(self) -> None:
        """Let time pass; to be called more often than the policy's period."""
        self._rescue()
        period = self.policy.period
        if period is None or self._clock() < self._tick_at:
            return
        self._advance()
        self._tick_at, self._explains = self.now + period, log.isEnabledFor(logging.DEBUG)
        self.policy.tick()

    def predicted_wait(self) -> float | None:
        """Seconds after which the soonest engine has computed what it has; None without engines."""
        return min((engine.predicted_wait() for engine in self.engines.values()), default=None)

    # What a policy sees and may do

    @property
    def now(self) -> float:
        return self._time.now

    def cached(self, request: Request, engine: int) -> int:
        return self.holders(request).held(engine)

    def holders(self, request: Request) -> Holders:
        request = _live(request)
        request.held = held = self.roster.holders(request)
        return held

    def dispatch(self, request: Request, engine: int, *, rank: float = 0.0, hold: bool = False) -> None:
        """Send it. `rank` changes nothing, as engines take what they get in order, and neither does `hold`: it decodes
        where it was prefilled."""
        request = _live(request)
        if request.over:
            self._ghosts.append(request)
            return
        if request.engine is not None:
            raise ValueError(f"request {request.id} has been dispatched")
        chosen = self.engines.get(engine) if request.may_go(engine) else None
        self._send(request, chosen or least_loaded(request, self.engines))

    def shed(self, request: Request, reason: str) -> None:
        request = _live(request)
        if request.over:
            return
        if request.emitted:
            raise ValueError(f"request {request.id} has emitted tokens: it can no longer be refused")
        if request.generation.log.attempt:
            self._send(request, least_loaded(request, self.engines))
            return
        request.over = True
        self.waiting.pop(request.id, None)
        request.generation.note = None
        self._refuse(request.generation, reason)

    # Parts

    def _waiting(
        self, generation: Generation, places: frozenset[int] | None, names: Names | None = None
    ) -> LiveRequest:
        if names is None:
            names = self.roster.names((*generation.log.prompt, *generation.log.output))
        request = LiveRequest(next(self._requests), generation, names, since=self.now)
        generation.note = self.waiting[request.id] = request
        if places is not None:
            self.constrain(request, places)
        return request

    def _rescue(self) -> None:
        """Let engines that idle take what has waited for too long. To the policy they are like another gateway's."""
        for request in list(self.waiting.values()):
            if self._clock() - request.since < LONGEST_IDLE_SECONDS:
                return
            engine = least_loaded(request, self.engines) if request.id in self.waiting else None
            if engine is None or engine.running or engine.waiting:
                continue
            generation = request.generation
            self.ended(generation, moves=True)
            self._send(self._waiting(generation, request.places, request.names), engine)

    def _advance(self) -> None:
        """The time of the next call to the policy, which is first told again of what it sent though it was over."""
        self._time.now = self._clock()
        while self._ghosts:
            self.policy.ended(self._ghosts.pop())

    def _engine(self, request: LiveRequest) -> LiveEngine | None:
        member = request.generation.member
        return None if member is None else self.roster.get(member)

    def _send(self, request: LiveRequest, engine: LiveEngine) -> None:
        del self.waiting[request.id]
        request.engine = engine.id
        held = self.holders(request) if request.held is None else request.held
        request.cached = held.held(engine.id)
        request.held = None
        engine.sent(request)
        if self._explains:
            where = {"request_id": request.generation.log.id, "replica": engine.member.replica}
            log.debug("dispatched: %s", self.policy.explain(request), extra=where)
        self._submit(request.generation, engine.member)


def _live(request: Request) -> LiveRequest:
    """A policy hands back what it was given."""
    assert isinstance(request, LiveRequest)
    return request
