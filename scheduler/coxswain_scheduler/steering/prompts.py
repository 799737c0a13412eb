"""Prompts on their way to an engine: sent at once, or queued until an engine is free for them, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from coxswain_scheduler.demand import Demand
from coxswain_scheduler.interface import Cluster, Request
from coxswain_scheduler.packing import Packing
from coxswain_scheduler.prefilling import Choosing, Seat, Seats
from coxswain_scheduler.queueing import BatchWork, DeadlineQueue, Job, LengthClasses
from coxswain_scheduler.steering.roles import Roles

_STALE_SECONDS: Final = 0.3
"""After which it is asked again what the engines hold of a waiting prompt."""
_AHEAD_SECONDS: Final = 1e6
"""By how much a priority goes ahead of the one below it where an engine must preempt."""
_AT_ONCE: Final = 64
"""Waiting prompts that are offered to all of many engines, at every tick."""


class Prompts:
    """Those that wait, and who goes next."""

    def __init__(
        self,
        cluster: Cluster,
        seats: Seats,
        choosing: Choosing,
        roles: Roles,
        *,
        packing: Packing,
        demand: Demand,
        look: int,
        floor: float,
        reserve: float,
    ) -> None:
        """See `Coxswain` for the constants."""
        self.queue = DeadlineQueue()
        self.batch = BatchWork()
        self._classes = LengthClasses(floor=floor)
        self._cluster = cluster
        self._seats = seats
        self._choosing = choosing
        self._roles = roles
        self._packing = packing
        self._demand = demand
        self._look_at = look
        self._reserve = reserve
        self._ttft, self._inter_token = cluster.objectives.ttft, cluster.objectives.inter_token

    def arrived(self, request: Request) -> None:
        """A request to send, to queue or to refuse."""
        now = self._cluster.now
        request.note = job = Job(request, deadline=self._deadline(request))
        self._choosing.look(job, now)
        if job.priority < 0:
            self.batch.add(job)
            self.serve_idle()
            return
        job.length_class = self._classes.offer(request.prompt_tokens)
        if not self._try(job, now):
            self.queue.add(job)
            if len(self.queue) > 2:
                self._thin()

    def others_tokens(self) -> Iterator[int]:
        """Of each prompt of no high priority that is queued."""
        return (job.tokens for job in self.queue if job.priority <= 0)

    def ended(self, job: Job) -> None:
        """It waits no more."""
        self.queue.discard(job)
        self.batch.discard(job)
        self._choosing.clearing.release(job)

    def serve(self, seat: Seat) -> None:
        """Give an engine that is free the prompts for which it is the best place, and then batch work."""
        now = self._cluster.now
        if not (len(self.queue) or len(self.batch)) or not seat.ready(now):
            return
        for job in self._waiting(seat):
            if self._offer(job, seat) and not seat.ready(now):
                return
        while len(self.batch) and not len(self.queue) and seat.ready(now):
            self._send_batch(seat)

    def serve_idle(self) -> None:
        """Give what waits to engines that are free."""
        if self._seats.many:
            for job in self.queue.first(_AT_ONCE):
                self._offer(job)
            if len(self.queue) or not len(self.batch):
                return
        for seat in list(self._seats.open.values()):
            self.serve(seat)

    def _deadline(self, request: Request) -> float:
        """When its prefill is to be done: what follows is the way of its KV and one decode step."""
        due = request.arrival + self._ttft
        if request.deadline is not None:
            due = min(due, request.deadline - self._packing.answers.mean * self._inter_token)
        due -= self._reserve
        if self._roles.separate:
            cluster = self._cluster
            due -= request.prompt_tokens * cluster.kv_bytes_per_token / cluster.link_bytes_per_second
        return due

    def _try(self, job: Job, now: float) -> bool:
        """Send a job where it is best, if that can begin now."""
        found = self._choosing.choose(job, now, alone=self._roles.separate)
        if found is None:
            return False
        seat, seconds, cached = found
        self._send(job, seat, seconds, cached, now)
        return True

    def _send(self, job: Job, seat: Seat, seconds: float, cached: int, now: float) -> None:
        request, separate = job.request, self._roles.separate
        job.forget()
        self._choosing.clearing.release(job)
        if not separate:
            self._packing.placed(request, seat.id)
        self._seats.given(seat, seconds, now, uncached=job.tokens - cached, alone=separate)
        self._demand.prefill(seconds, now)
        self._cluster.dispatch(request, seat.id, hold=separate, rank=job.latest - job.priority * _AHEAD_SECONDS)

    def _offer(self, job: Job, seat: Seat | None = None) -> bool:
        """Send a job that waits, if that can begin now: on a seat that has become free or, without one, anywhere."""
        now = self._cluster.now
        if now - job.looked > _STALE_SECONDS:
            self.queue.remove(job)
            self._choosing.look(job, now)
            self.queue.add(job)
        if now + job.seconds > job.deadline and len(self.queue) > 1 and not job.request.emitted:
            self._refuse(job, "it could not be in time any more")
        elif (seat is None or self._choosing.may_suit(job, seat)) and self._try(job, now):
            self.queue.remove(job)
            return True
        elif not (self._roles.separate or self._seats.many):
            self._choosing.clearing.begin(job, list(self._seats.open.values()), now)
        return False

    def _waiting(self, seat: Seat) -> list[Job]:
        """Those that may go to an engine that is free: the most urgent, of many all that wait for this one, and
        where it decodes too, others for which it has room."""
        first = self.queue.first(self._look_at)
        if len(self.queue) == len(first):
            return first
        others = self.queue.after(len(first))
        if self._seats.many:
            return first + [job for job in others if job.awaits is seat]
        if not self._roles.separate:
            room = self._seats.stalls.room(seat, self._cluster.now)
            first += islice((job for job in others if job.tokens <= room), self._look_at)
        return first

    def _send_batch(self, seat: Seat) -> None:
        job = self.batch.next(seat.id)
        cached = self._cluster.cached(job.request, seat.id)
        job.decision = f"engine {seat.id} by its group: {cached} of {job.tokens} tokens cached, and nobody else waits"
        seconds = self._seats.durations.seconds(seat, job.tokens - cached, cached)
        self._send(job, seat, seconds, cached, self._cluster.now)

    def _thin(self) -> None:
        """Refuse what would make others late."""
        while victim := self.queue.victim(
            now=self._cluster.now,
            free_in=self._seats.busy_for(),
            width=max(1, len(self._seats.open)),
            may=lambda job: not job.request.emitted and self._classes.may_refuse(job.length_class),
        ):
            self._refuse(victim, "the queue is longer than the objective allows")

    def _refuse(self, job: Job, reason: str) -> None:
        self.queue.remove(job)
        self._choosing.clearing.release(job)
        self._classes.refuse(job.length_class)
        job.decision = f"refused: {reason} (prefill {job.seconds:.3f} s, due {job.deadline - self._cluster.now:.3f} s)"
        self._cluster.shed(job.request, reason)
