"""Coxswain's own policy: prompts wait in one queue, decodes are packed, and an engine's role follows from what it has.

- Prompts wait at the gateway, not in engines, in the order in which they must start (`queueing`). An engine that has
  nothing more to prefill is given the next prompt for which it is the best place (`prefilling`); so the choice is made
  with what is known at the last moment, and no prompt waits behind another while an engine idles.
- After its prefill a request decodes on the fullest engine that has room for it (`packing`); engines without decodes
  prefill. So the split between the two follows the load from moment to moment, and none has to be given.
- When not all that waits can be in time, the longest is refused (Moore–Hodgson), yet no class of prompt lengths falls
  below its floor. What cannot be in time any more is refused while others wait for the engine, and served otherwise.
- A high priority goes first, and decodes where others leave room; batch work (a negative priority) fills the gaps,
  grouped by prefix, and is paused with its KV when its neighbours' steps become too long.
- All this is for traffic whose prompts take a good part of the engines' time. Where they hardly matter, and where KV
  cannot travel (or travels longer than it takes to compute), requests decode where they were prefilled, on the engine
  that they disturb least, and move only when its KV runs out (`migration`).
"""

from __future__ import annotations

from coxswain_scheduler.balancing import Balancing
from coxswain_scheduler.demand import Demand
from coxswain_scheduler.packing import Packing
from coxswain_scheduler.policies.interface import Cluster, Engine, Request
from coxswain_scheduler.prefilling import Prefilling, Seat
from coxswain_scheduler.queueing import BatchWork, DeadlineQueue, Job, LengthClasses

_STALE_SECONDS = 0.3
"""After which it is asked again what the engines hold of a waiting prompt."""
_TYPICAL_PROMPT = 4096
"""Tokens of a prompt by which computing KV is compared with sending it."""
_STALL = (0.8, 1.0)
"""Inter-token objectives that a prefill takes, likewise: where prompts are short, decodes hardly notice them."""
_AHEAD_SECONDS = 1e6
"""By how much a priority goes ahead of the one below it where an engine must preempt."""
_PREFILL_SHARE = (0.28, 0.35)
"""Share of the demand that is prefill: below, the two go together; above, apart, for then they disturb each other."""
_PRESSURE = (0.03, 0.05)
"""Share of the fleet that is in demand, likewise: what hardly does anything is left as it is."""
_AT_ONCE = 64
"""Waiting prompts that are offered to all of many engines, at every tick."""


class Coxswain:
    """See the module.

    Args:
        patience: Seconds of prefill that a second of waiting is worth.
        look: Waiting prompts that a free engine chooses from.
        fill: An engine with fewer tokens to prefill takes another prompt into the same step.
        full: Share of an engine's KV that decodes may be planned to fill.
        reserved: Share of it that others leave free where high priorities decode.
        floor: Share of each fifth of the prompt lengths that is not refused for the others' sake.
        reserve: Seconds before the TTFT objective by which a prefill is to be done: the first decode step follows it.
        stall: Inter-token objectives of stalls that decodes can save up for, where engines both prefill and decode.
        pace: Share of the inter-token objective that steps and stalls together may take there.
        steps: Decode steps for which an engine keeps KV free there, so that migration can relieve it in time.
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
        reserved: float = 0.5,
        floor: float = 0.8,
        reserve: float = 0.06,
        stall: float = 5.0,
        pace: float = 0.85,
        steps: int = 32,
        seed: int = 0,
    ) -> None:
        self._patience, self._look_at, self._fill = patience, look, fill
        self._steps = steps
        self._full, self._reserved, self._floor = full, reserved, floor
        self._reserve, self._stall, self._pace = reserve, stall, pace
        del seed  # nothing is left to chance

    # What happens

    def begin(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.queue = DeadlineQueue()
        self.batch = BatchWork()
        self.held: list[Request] = []
        self.classes = LengthClasses(floor=self._floor)
        inter_token = cluster.objectives.inter_token * 0.97
        self.packing = Packing(full=self._full, reserved=self._reserved, inter_token=inter_token)
        self.prefilling = Prefilling(
            cluster,
            patience=self._patience,
            fill=self._fill,
            stall=self._stall,
            pace=self._pace,
            spare=self._spare,
            urgent=self.packing.urgent,
        )
        self.balancing = Balancing(cluster, self.packing.decoding)
        self.demand = Demand(full=self._full)
        self.can_separate = self.separate = False
        for engine in cluster.engines.values():
            self._seat(engine)

    def arrived(self, request: Request) -> None:
        if request.priority < 0:
            self.batch.add(self._job(request))
            self._serve_idle()
        elif not self.dispatch(request):
            assert isinstance(request.note, Job)
            self.queue.add(request.note)
            if len(self.queue) > 2:
                self._thin()

    def dispatch(self, request: Request) -> bool:
        """Send a new request to the engine that is best for it, if its prefill can begin there now."""
        job = self._job(request)
        job.length_class = self.classes.offer(request.prompt_tokens)
        return self._try(job)

    def prefilled(self, request: Request) -> None:
        self.held.append(request)
        self._place_held()

    def ended(self, request: Request) -> None:
        if request.emitted:
            self.packing.answers.ended(request.emitted)
        if isinstance(request.note, Job):
            self._forget(request.note)
        engine = self.packing.where(request)
        if engine is not None:
            self.packing.left(request, engine)
            self._freed(engine)

    def stepped(self, engine: Engine) -> None:
        if self.held:
            self._place_held()
        seat = self.prefilling.open.get(engine.id)
        if seat is not None:
            self.prefilling.refresh(seat)
            self._serve(seat)
            self.prefilling.settle(seat)

    def tick(self) -> None:
        engines = self.cluster.engines
        if self.can_separate:
            self._reconsider()
        if self.separate:
            for request, target in self.packing.gather(engines.values()):
                self._move(request, target)
        elif self.can_separate:
            self._balance()
        for engine in engines.values():
            self._relieve(engine)
        self.prefilling.relearn()
        self.prefilling.relist()
        self._serve_idle()

    def joined(self, engine: Engine) -> None:
        self._serve(self._seat(engine))

    def lost(self, engine: int) -> None:
        self.prefilling.drop(engine)
        self.packing.drop(engine)
        self.held = [request for request in self.held if request.engine is not None]
        self._check_link()

    def explain(self, request: Request) -> str:
        job = request.note
        if not isinstance(job, Job) or job.decision is None:
            return f"request {request.id} waits for an engine on which it can be in time"
        return f"request {request.id}: {job.decision}"

    # Engines

    def _forget(self, job: Job) -> None:
        """It waits no more."""
        self.queue.discard(job)
        self.batch.discard(job)
        self.prefilling.release(job)

    def _seat(self, engine: Engine) -> Seat:
        self.packing.add(engine.id)
        seat = self.prefilling.add(engine)
        self._check_link()
        engine.role = "Prefill" if self.separate else "Serve"
        return seat

    def _check_link(self) -> None:
        """Prefill and decode can be apart if there are several engines and KV is sent sooner than computed."""
        seats, link = self.prefilling.seats, self.cluster.link_bytes_per_second
        self.can_separate = False
        if len(seats) > 1 and link:
            sending = _TYPICAL_PROMPT * self.cluster.kv_bytes_per_token / link
            computing = min(self.prefilling.seconds(seat, _TYPICAL_PROMPT, 0) for seat in seats.values())
            self.can_separate = sending < computing
        if not self.can_separate:
            self._unite()

    def _reconsider(self) -> None:
        """Whether prefill and decode are to be apart."""
        now, engines = self.cluster.now, self.cluster.engines
        prefill, decode = self.demand.of_prefill(now), self.demand.of_decode(engines.values())
        pressure, share = (prefill + decode) / len(engines), prefill / max(prefill + decode, 1e-9)
        stall = self.demand.prefill_seconds / self.cluster.objectives.inter_token
        if pressure < _PRESSURE[0] or share < _PREFILL_SHARE[0] or stall < _STALL[0]:
            self._unite()
        elif pressure > _PRESSURE[1] and share > _PREFILL_SHARE[1] and stall > _STALL[1]:
            self._part()

    def _part(self) -> None:
        if self.separate:
            return
        self.separate = True
        for seat in list(self.prefilling.seats.values()):
            if self.packing.decoding[seat.id]:
                self.prefilling.close(seat.id)
            seat.engine.role = "Prefill" if seat.id in self.prefilling.open else "Decode"

    def _unite(self) -> None:
        if not self.separate:
            return
        self.separate = False
        for seat in self.prefilling.seats.values():
            seat.engine.role = "Serve"
            if seat.id not in self.prefilling.open:
                self.prefilling.reopen(seat)

    def _freed(self, engine: int) -> None:
        """Something that decoded there is gone."""
        seat = self.prefilling.seats.get(engine)
        if seat is None:
            return
        if engine not in self.prefilling.open and not self.packing.decoding[engine]:
            self.prefilling.reopen(seat)
            seat.engine.role = "Prefill" if self.separate else "Serve"
        if engine in self.prefilling.open:
            if self.prefilling.many:
                self.prefilling.refresh(seat)
            self._serve(seat)
            self.prefilling.settle(seat)

    # Prefill

    def _spare(self, engine: Engine) -> int:
        """Blocks for a prompt there: what decodes will need is kept free until migration can relieve them, where there
        is migration, and else until they end."""
        if not self.can_separate:
            return self.packing.room(engine, 0)
        return self.packing.spare(engine, steps=self._steps)

    def _deadline(self, request: Request) -> float:
        """When its prefill is to be done: what follows is the way of its KV and one decode step."""
        cluster = self.cluster
        due = request.arrival + cluster.objectives.ttft
        if request.deadline is not None:
            due = min(due, request.deadline - self.packing.answers.mean * cluster.objectives.inter_token)
        if not self.separate:
            return due - self._reserve
        return due - self._reserve - request.prompt_tokens * cluster.kv_bytes_per_token / cluster.link_bytes_per_second

    def _job(self, request: Request) -> Job:
        request.note = job = Job(request, deadline=self._deadline(request))
        self.prefilling.look(job)
        return job

    def _try(self, job: Job) -> bool:
        """Send a job where it is best, if that can begin now."""
        found = self.prefilling.choose(job, alone=self.separate)
        if found is None:
            return False
        self._send(job, *found)
        return True

    def _send(self, job: Job, seat: Seat, seconds: float) -> None:
        self.prefilling.release(job)
        if not self.separate:
            self.packing.placed(job.request, seat.id)
        uncached = job.tokens - job.hits.get(seat.id, 0)
        self.prefilling.given(seat, seconds, uncached=uncached, alone=self.separate)
        self.demand.prefill(seconds, self.cluster.now)
        self.cluster.dispatch(
            job.request, seat.id, hold=self.separate, rank=job.latest - job.request.priority * _AHEAD_SECONDS
        )

    def _serve(self, seat: Seat) -> None:
        """Give an engine that is free the prompts for which it is the best place, and then batch work."""
        prefilling = self.prefilling
        if not (len(self.queue) or len(self.batch)) or not prefilling.ready(seat):
            return
        for job in self._waiting(seat):
            if self._offer(job, seat) and not prefilling.ready(seat):
                return
        while len(self.batch) and not len(self.queue) and prefilling.ready(seat):
            self._send_batch(seat)

    def _offer(self, job: Job, seat: Seat | None = None) -> bool:
        """Send a job that waits, if that can begin now: on a seat that has become free or, without one, anywhere."""
        prefilling, now = self.prefilling, self.cluster.now
        if now - job.looked > _STALE_SECONDS:
            self.queue.remove(job)
            prefilling.look(job)
            self.queue.add(job)
        if now + job.seconds > job.deadline and len(self.queue) > 1 and not job.request.emitted:
            self._refuse(job, "it could not be in time any more")
        elif (seat is None or prefilling.may_suit(job, seat)) and self._try(job):
            self.queue.remove(job)
            return True
        elif not self.separate:
            prefilling.clear(job)
        return False

    def _waiting(self, seat: Seat) -> list[Job]:
        """Those that may go to an engine that is free: the most urgent, and of many all that wait for this one."""
        first = self.queue.first(self._look_at)
        if self.prefilling.many and len(self.queue) > len(first):
            first += [job for job in self.queue.after(len(first)) if job.awaits is seat]
        return first

    def _serve_idle(self) -> None:
        if self.prefilling.many:
            for job in self.queue.first(_AT_ONCE):
                self._offer(job)
            if len(self.queue) or not len(self.batch):
                return
        for seat in list(self.prefilling.open.values()):
            self._serve(seat)

    def _send_batch(self, seat: Seat) -> None:
        job = self.batch.next(seat.id)
        cached = self.cluster.cached(job.request, seat.id)
        job.decision = f"engine {seat.id} by its group: {cached} of {job.tokens} tokens cached, and nobody else waits"
        self._send(job, seat, self.prefilling.seconds(seat, job.tokens - cached, cached))

    def _thin(self) -> None:
        """Refuse what would make others late."""
        prefilling = self.prefilling
        while victim := self.queue.victim(
            now=self.cluster.now,
            free_in=prefilling.busy_for(),
            width=max(1, len(prefilling.open)),
            may=lambda job: not job.request.emitted and self.classes.may_refuse(job.length_class),
        ):
            self._refuse(victim, "the queue is longer than the objective allows")

    def _refuse(self, job: Job, reason: str) -> None:
        self.queue.remove(job)
        self.prefilling.release(job)
        self.classes.refuse(job.length_class)
        job.decision = f"refused: {reason} (prefill {job.seconds:.3f} s, due {job.deadline - self.cluster.now:.3f} s)"
        self.cluster.shed(job.request, reason)

    # Decode

    def _place_held(self) -> None:
        while self.held:
            request = self.held[0]
            if request.engine is not None and not self._place(request):
                return
            self.held.pop(0)

    def _place(self, request: Request) -> bool:
        target = self.packing.best(request, self.cluster.engines.values())
        if target is None:
            if len(self.prefilling.open) < 2 and self.separate:
                return False
            target = self._new_decoder(request)
        self.packing.placed(request, target.id)
        if self.separate and self.prefilling.close(target.id):
            target.role = "Decode"
        self.cluster.place(request, target.id)
        self._relieve(target)
        return True

    def _new_decoder(self, request: Request) -> Engine:
        """Where it is, so that its KV need not travel; else where the least waits for a prefill."""
        seats = self.prefilling.open
        if request.engine in seats:
            return seats[request.engine].engine
        return min(seats.values(), key=lambda seat: seat.free_at).engine

    def _move(self, request: Request, target: Engine) -> None:
        source = request.engine
        assert source is not None
        self.packing.left(request, source)
        self.packing.placed(request, target.id)
        self.cluster.move(request, target.id)
        self._freed(source)

    def _balance(self) -> None:
        """Migrate from engines whose KV runs out, for prompts that find no room, and to even out steps."""
        seats = self.prefilling.seats
        whole = {name: self.prefilling.seconds(seat, _TYPICAL_PROMPT, 0) for name, seat in seats.items()}
        costs = {name: seconds / _TYPICAL_PROMPT for name, seconds in whole.items()}
        for request, target in self.balancing.moves(costs, self.prefilling.wanted):
            self._move(request, target)

    def _relieve(self, engine: Engine) -> None:
        pause, resume = self.packing.relieve(engine)
        for request in pause:
            self.packing.paused[request.id] = request
            self.cluster.pause(request)
        for request in resume:
            del self.packing.paused[request.id]
            self.cluster.resume(request)
