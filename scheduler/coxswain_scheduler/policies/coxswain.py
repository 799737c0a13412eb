"""Coxswain's own policy: prompts wait in one queue, decodes are packed, and an engine's role follows from what it has.

- Prompts wait at the gateway, not in engines, in the order in which they must start (`queueing`). An engine that has
  nothing more to prefill is given the next prompt for which it is the best place; so the choice is made with what is
  known at the last moment, and no prompt waits behind another while an engine idles.
- The best place is where prefill plus `patience` times the wait is least: waiting for an engine that holds the prefix
  costs this request some of its slack, computing it anew costs everybody capacity. A place where it would be late is
  taken only when there is no other.
- After its prefill a request decodes on the fullest engine that has room for it (`packing`); engines without decodes
  prefill. So the split between the two follows the load from moment to moment, and none has to be given.
- When not all that waits can be in time, the longest is refused (Moore–Hodgson), yet no class of prompt lengths falls
  below its floor. What cannot be in time any more is refused while others wait, and served late when nobody does.
- Where KV cannot travel, requests decode where they were prefilled, and an engine takes a prompt when its decodes can
  afford the stall: each step faster than the inter-token objective earns the difference.
"""

from __future__ import annotations

from math import inf

from coxswain_scheduler.costs.timing import Timing, Work
from coxswain_scheduler.packing import Packing
from coxswain_scheduler.policies.interface import Cluster, Engine, Request
from coxswain_scheduler.queueing import DeadlineQueue, Job, LengthClasses

_STALE_SECONDS = 0.3
"""After which it is asked again what the engines hold of a waiting prompt."""
_GRAIN_BITS = 6
"""Prompts whose uncached lengths differ by less than 64 tokens are taken to cost the same."""
_FULL = 1.0
"""Seconds after which an engine without room is taken to have some."""
_LEAST_EARNED = 1e-3
_LATE = 10.0
"""Seconds that being late costs, on top of how late."""


class Seat:
    """One engine as a place to prefill."""

    __slots__ = ("blocks", "credit", "earned", "engine", "free_at", "id", "kind", "looked")

    def __init__(self, engine: Engine, kind: dict[int, float]) -> None:
        self.engine = engine
        self.id = engine.id
        self.kind = kind
        """Seconds of a prefill by uncached tokens / 64, shared by engines of one timing."""
        self.free_at = 0.0
        """When the prompts that it was given are computed."""
        self.credit = 0.0
        """Seconds that its decodes can afford to stall."""
        self.earned = 0.0
        """Seconds of stalls that they save up in each second."""
        self.blocks = 0
        """For which there is room."""
        self.looked = -1.0


class Coxswain:
    """See the module.

    Args:
        patience: Seconds of prefill that a second of waiting is worth.
        look: Waiting prompts that a free engine chooses from.
        fill: An engine with fewer tokens to prefill takes another prompt into the same step.
        full: Share of an engine's KV that decodes may be planned to fill.
        floor: Share of each fifth of the prompt lengths that is not refused for the others' sake.
        reserve: Seconds before the TTFT objective by which a prefill is to be done: the first decode step follows it.
        stall: Seconds of stalls that decodes can save up for, where engines both prefill and decode.
        pace: Share of the inter-token objective that steps and stalls together may take there.
    """

    period: float | None = 0.2
    """Seconds between two looks for scattered decodes."""

    def __init__(
        self,
        *,
        patience: float = 0.25,
        look: int = 12,
        fill: int = 4096,
        full: float = 0.97,
        floor: float = 0.8,
        reserve: float = 0.06,
        stall: float = 0.25,
        pace: float = 0.85,
        seed: int = 0,
    ) -> None:
        self._patience = patience
        self._look_at = look
        self._fill = fill
        self._full = full
        self._floor = floor
        self._reserve = reserve
        self._stall = stall
        self._pace = pace
        del seed  # nothing is left to chance

    # What happens

    def begin(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.queue = DeadlineQueue()
        self.late: list[Job] = []
        self.held: list[Request] = []
        self.classes = LengthClasses(floor=self._floor)
        self.packing = Packing(full=self._full, inter_token=cluster.objectives.inter_token * 0.97)
        self._kinds: dict[Timing, dict[int, float]] = {}
        self.seats: dict[int, Seat] = {}
        self.prefillers: dict[int, Seat] = {}
        for engine in cluster.engines.values():
            self._seat(engine)

    def arrived(self, request: Request) -> None:
        cluster = self.cluster
        now = cluster.now
        job = Job(request, deadline=request.arrival + cluster.objectives.ttft - self._after_prefill(request))
        request.note = job
        self._look(job, now)
        job.length_class = self.classes.offer(request.prompt_tokens)
        seat = self._choose(job, now)
        if seat is not None:
            self._send(job, seat, now)
            return
        self.queue.add(job)
        if len(self.queue) > 2:
            self._thin(now)

    def prefilled(self, request: Request) -> None:
        self.held.append(request)
        self._place_held()

    def ended(self, request: Request) -> None:
        job = request.note
        if isinstance(job, Job) and request.emitted:
            self.packing.answers.ended(request.emitted)
        for engine, decoding in self.packing.decoding.items():
            if decoding.pop(request.id, None) is not None:
                self._maybe_prefiller(engine)
                break

    def stepped(self, engine: Engine) -> None:
        if self.held:
            self._place_held()
        seat = self.prefillers.get(engine.id)
        if seat is not None:
            self._refresh(seat)
            if len(self.queue) or self.late:
                self._serve(seat)

    def tick(self) -> None:
        if self._travels:
            for request, engine in self.packing.gather(self.cluster.engines.values()):
                self._moved(request, engine)
        now = self.cluster.now
        for seat in list(self.prefillers.values()):
            if self._ready(seat, now) and len(self.queue):
                self._serve(seat)

    def joined(self, engine: Engine) -> None:
        self._seat(engine)
        self._serve(self.seats[engine.id])

    def lost(self, engine: int) -> None:
        self.seats.pop(engine, None)
        self.prefillers.pop(engine, None)
        self.packing.drop(engine)
        self.held = [request for request in self.held if request.engine is not None]

    def explain(self, request: Request) -> str:
        job = request.note
        if not isinstance(job, Job) or job.considered is None:
            return f"request {request.id}: waits for an engine that could be in time"
        return str(job.considered)

    # Prefill

    @property
    def _travels(self) -> bool:
        return len(self.seats) > 1 and self.cluster.link_bytes_per_second > 0

    def _after_prefill(self, request: Request) -> float:
        """Seconds from the end of its prefill to its first token."""
        cluster = self.cluster
        if not self._travels:
            return self._reserve
        return self._reserve + request.prompt_tokens * cluster.kv_bytes_per_token / cluster.link_bytes_per_second

    def _seat(self, engine: Engine) -> None:
        kind = self._kinds.setdefault(engine.timing, {})
        self.seats[engine.id] = seat = Seat(engine, kind)
        self.packing.add(engine.id)
        self.prefillers[engine.id] = seat
        engine.role = "Prefill" if self._travels else "Serve"

    def _seconds(self, seat: Seat, uncached: int, cached: int) -> float:
        """Of a prefill of so many tokens behind so many cached ones, alone on an engine."""
        key = uncached >> _GRAIN_BITS | (cached >> 12 << 20)
        seconds = seat.kind.get(key)
        if seconds is None:
            timing, budget = seat.engine.timing, seat.engine.step_tokens
            seconds, done = 0.0, 0
            while done < uncached:
                count = min(budget, uncached - done)
                start = cached + done
                seconds += timing.seconds(Work(count, count * start + count * (count + 1) // 2))
                done += count
            seat.kind[key] = seconds
        return seconds

    def _look(self, job: Job, now: float) -> None:
        """See what the engines hold of the prompt."""
        request = job.request
        job.hits = dict(self.cluster.holders(request))
        job.looked = now
        prompt, hits = request.prompt_tokens + request.emitted, job.hits
        job.needs(min(self._seconds(seat, prompt - hits.get(id_, 0), hits.get(id_, 0)) for id_, seat in self.seats.items()))

    def _choose(self, job: Job, now: float) -> Seat | None:
        """The best place, if it can begin now; None while the best is to wait."""
        patience, hits, deadline = self._patience, job.hits, job.deadline
        prompt = job.request.prompt_tokens + job.request.emitted
        best, least, begin = None, inf, now
        travels = self._travels
        for id_, seat in self.prefillers.items():
            cached = hits.get(id_, 0)
            seconds = self._seconds(seat, prompt - cached, cached)
            start = seat.free_at if travels else self._affordable(seat, job, seconds, now)
            if start < now:
                start = now
            cost = seconds + patience * (start - now)
            if start + seconds > deadline:
                cost += _LATE + start + seconds - deadline
            if cost < least:
                best, least, begin = seat, cost, start
        if best is None or begin > now or not self._ready(best, now):
            return None
        return best

    def _affordable(self, seat: Seat, job: Job, seconds: float, now: float) -> float:
        """When the decodes of an engine can afford the stall of a prefill of so many seconds."""
        if seat.looked != now:
            self._look_at_decodes(seat, now)
        if not seat.earned:
            return seat.free_at
        request = job.request
        if seat.blocks * seat.engine.block_size < request.prompt_tokens + request.emitted:
            return now + _FULL
        lacking = min(seconds, self._stall) - seat.credit
        if lacking <= 0:
            return seat.free_at
        return max(now, seat.free_at) + min(_FULL, lacking / seat.earned)

    def _look_at_decodes(self, seat: Seat, now: float) -> None:
        """What they have saved up by now, and how much room they leave; nothing decodes where `earned` is 0."""
        engine, since = seat.engine, seat.looked
        seat.looked = now
        decoding = engine.decoding
        if not decoding:
            seat.credit, seat.earned = self._stall, 0.0
            return
        target = self.cluster.objectives.inter_token * self._pace
        step = engine.timing.decode_seconds(decoding, engine.context, 1)
        seat.earned = max(_LEAST_EARNED, 1.0 - step / target)
        seat.credit = min(self._stall, seat.credit + (now - since) * seat.earned)
        seat.blocks = self.packing.room(engine, 0, 0)

    def _ready(self, seat: Seat, now: float) -> bool:
        """Whether it can take another prompt into its next step."""
        engine = seat.engine
        if engine.waiting:
            return False
        if engine.running == 0:
            return True
        if engine.decoding:
            return not engine.pending_prefill
        return seat.free_at <= now and engine.busy_until <= now

    def _refresh(self, seat: Seat) -> None:
        """Between two steps: when it will have computed what it has."""
        pending = seat.engine.pending_prefill
        now = self.cluster.now
        seat.free_at = now if pending < self._fill else now + self._seconds(seat, pending, 0)

    def _serve(self, seat: Seat) -> None:
        """Give an engine that is free the prompts for which it is the best place."""
        now = self.cluster.now
        for job in self.queue.first(self._look_at):
            if not self._ready(seat, now):
                return
            if now - job.looked > _STALE_SECONDS:
                self.queue.remove(job)
                self._look(job, now)
                self.queue.add(job)
            if now + job.seconds > job.deadline and self._refusable(job):
                self._refuse(job, "it could not be in time any more")
                continue
            if (best := self._choose(job, now)) is not None:
                self.queue.remove(job)
                self._send(job, best, now)

    def _send(self, job: Job, seat: Seat, now: float) -> None:
        request, engine = job.request, seat.engine
        cached = job.hits.get(seat.id, 0)
        begin = engine.busy_until
        seat.free_at = max(now, seat.free_at, begin) + self._seconds(
            seat, request.prompt_tokens + request.emitted - cached, cached
        )
        travels = self._travels
        if not travels:
            seat.credit -= seat.free_at - max(now, begin)
            seat.blocks = -1  # until its next step it takes no more
            self.packing.placed(request, seat.id)
        job.considered = None
        self.cluster.dispatch(request, seat.id, hold=travels, rank=job.latest)

    def _thin(self, now: float) -> None:
        """Refuse what would make others late."""
        width = len(self.prefillers)
        if not width:
            return
        free_in = sum(max(0.0, seat.free_at - now) for seat in self.prefillers.values()) / width
        while True:
            victim = self.queue.victim(now=now, free_in=free_in, width=width, may=self._may_refuse)
            if victim is None:
                return
            self._refuse(victim, "the queue is longer than the objective allows")

    def _may_refuse(self, job: Job) -> bool:
        return not job.request.emitted and self.classes.may_refuse(job.length_class)

    @staticmethod
    def _refusable(job: Job) -> bool:
        return not job.request.emitted

    def _refuse(self, job: Job, reason: str) -> None:
        self.queue.remove(job)
        self.classes.refuse(job.length_class)
        self.cluster.shed(job.request, reason)

    # Decode

    def _place_held(self) -> None:
        while self.held:
            request = self.held[0]
            if request.engine is not None and not self._place(request):
                return
            self.held.pop(0)

    def _place(self, request: Request) -> bool:
        engines = self.cluster.engines.values()
        target = self.packing.fullest(request, engines)
        if target is None:
            if len(self.prefillers) < 2:
                return False
            target = self._new_decoder(request)
        self.packing.placed(request, target.id)
        if self.prefillers.pop(target.id, None) is not None:
            target.role = "Decode"
        self.cluster.place(request, target.id)
        return True

    def _new_decoder(self, request: Request) -> Engine:
        """Where it is, so that its KV need not travel."""
        here = request.engine
        if here in self.prefillers:
            return self.prefillers[here].engine
        return min(self.prefillers.values(), key=lambda seat: seat.free_at).engine

    def _moved(self, request: Request, engine: Engine) -> None:
        assert request.engine is not None
        self.packing.left(request, request.engine)
        self.packing.placed(request, engine.id)
        source = request.engine
        self.cluster.move(request, engine.id)
        self._maybe_prefiller(source)

    def _maybe_prefiller(self, engine: int) -> None:
        seat = self.seats.get(engine)
        if seat is None:
            return
        if engine in self.prefillers:
            if len(self.queue):
                self._serve(seat)
        elif not self.packing.decoding[engine]:
            self.prefillers[engine] = seat
            seat.engine.role = "Prefill"
            seat.free_at = self.cluster.now
            self._serve(seat)
