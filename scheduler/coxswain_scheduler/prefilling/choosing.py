"""The choice of a seat for a prompt, and the look at what the engines hold of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from math import inf
from operator import itemgetter

from coxswain_scheduler.policies.interface import Cluster
from coxswain_scheduler.prefilling.choice import Choice
from coxswain_scheduler.prefilling.clearing import Clearing
from coxswain_scheduler.prefilling.durations import GRAIN_BITS, START_BITS
from coxswain_scheduler.prefilling.seat import Seat
from coxswain_scheduler.prefilling.seats import Seats
from coxswain_scheduler.prefixes import Holders
from coxswain_scheduler.queueing import Job

_LATE = 10.0
"""Seconds that being late costs, on top of how late."""
_DEEPEST, _HOLDERS = 4, 16
"""Of many seats: so many of those that hold most, found among as many holders, and some that are or will be ready."""
_COST = itemgetter(5)


class Choosing:
    """Compares seats."""

    def __init__(self, cluster: Cluster, seats: Seats, *, patience: float) -> None:
        """`patience`: see `Coxswain`."""
        self._cluster = cluster
        self._seats = seats
        self._patience = patience
        self._rule = f"least prefill + {patience:g} × wait"
        self.clearing = Clearing()

    def look(self, job: Job) -> None:
        """See what the engines hold of the prompt."""
        job.hits = hits = self._cluster.holders(job.request)
        job.looked = self._cluster.now
        tokens, seats, least = job.tokens, self._seats.all, inf
        durations = self._seats.durations
        job.awaits = None
        if len(seats) > self._seats.few:
            job.deepest = self._deepest(hits)
            hits = job.deepest
        alike = durations.alike
        for engine, cached in hits.items():
            if (seat := seats.get(engine)) is not None:
                least = min(least, durations.seconds(seat, tokens - cached, cached))
                if alike and self._seats.many:
                    break  # the others hold less
        if least == inf or not alike:
            least = min(least, durations.least(tokens))
        job.needs(least)

    def choose(self, job: Job, *, alone: bool) -> tuple[Seat, float] | None:
        """The best seat, and its prefill's seconds, if it can begin now; None while it is best to wait.

        `alone`: the seats only prefill.
        """
        now, many, urgent = self._cluster.now, self._seats.many, job.request.priority > 0
        patience, deadline, tokens, places = self._patience, job.deadline, job.tokens, job.request.places
        durations, stalls, tolls = self._seats.durations, self._seats.stalls, self._seats.tolls
        kept = None if self.clearing.is_for(job) else self.clearing.seat
        considered: list[float] = []
        best, least, chosen, begin = None, inf, 0.0, now
        for seat, cached in self._candidates(job, now):
            if seat is kept or (places is not None and seat.id not in places):
                continue
            uncached = tokens - cached
            seconds = seat.kind.get(uncached >> GRAIN_BITS | cached >> START_BITS << 20)
            if seconds is None:
                seconds = durations.seconds(seat, uncached, cached)
            start = seat.free_at
            if not (alone or (many and not seat.earned)):
                if many:
                    stalls.earn(seat, now)
                elif seat.looked != now:
                    stalls.look(seat, now)
                start = stalls.start(seat, tokens, seconds, now)
            wait = start - now if start > now else 0.0
            cost = seconds + patience * wait + tolls.wear(seat, seconds)
            if seat.decoding and not alone:
                cost += tolls.toll(seat, seconds, urgent=urgent)
            if now + wait + seconds > deadline:
                cost += _LATE + now + wait + seconds - deadline
            considered += (seat.id, cached, wait, seconds, seat.step, cost)
            if cost < least:
                best, least, chosen, begin = seat, cost, seconds, start
        if best is not None and begin <= now and not best.ready(now):
            best, chosen = self._instead(best, least, considered, now)
        if best is None or begin > now or not best.ready(now):
            job.awaits, job.cost = best, least
            return None
        job.decision = Choice(self._rule, tokens, best.id, considered)
        return best, chosen

    def may_suit(self, job: Job, seat: Seat) -> bool:
        """Whether a seat that is ready now may be the best for a job that waits: if it waits for that one, or if it
        would cost less there. Where there are few seats it is found out by choosing."""
        if not self._seats.many or job.awaits is None or job.awaits is seat:
            return True
        cached = job.hits.get(seat.id, 0)
        seconds, tolls = self._seats.durations.seconds(seat, job.tokens - cached, cached), self._seats.tolls
        cost = seconds + tolls.toll(seat, seconds, urgent=job.request.priority > 0)
        return cost + tolls.wear(seat, seconds) < job.cost

    def _instead(self, best: Seat, least: float, considered: list[float], now: float) -> tuple[Seat, float]:
        """Who could begin now, where the wait for the end of the best one's step costs more than to take another."""
        limit = least + self._patience * (best.engine.busy_until - now)
        fields = iter(considered)
        rows = sorted(zip(fields, fields, fields, fields, fields, fields, strict=True), key=_COST)
        for engine, _, wait, seconds, _, cost in rows:
            if cost >= limit:
                break
            seat = self._seats.all[int(engine)]
            if not wait and seat.ready(now):
                return seat, seconds
        return best, 0.0

    def _candidates(self, job: Job, now: float) -> Iterable[tuple[Seat, int]]:
        """Those to compare, and the tokens that they hold."""
        seats, held = self._seats, job.hits.get
        if not seats.many:
            return [(seat, held(key, 0)) for key, seat in seats.open.items()]
        looks = [(seat, held(seat.id, 0)) for seat in seats.openings.first(now)]
        # Of equal engines, who holds no more than the first is no better than that one.
        least = looks[0][1] if looks and seats.durations.alike else -1
        known = [seat.id for seat, _ in looks]
        for key, cached in job.deepest.items():
            if cached > least and key in seats.open and key not in known:
                looks.append((seats.open[key], cached))
        return looks

    def _deepest(self, hits: Mapping[int, int]) -> dict[int, int]:
        """The open seats that hold most, and how much."""
        seats = self._seats
        count = _DEEPEST if len(seats.open) == len(seats.all) else _HOLDERS
        most = hits.most(count) if isinstance(hits, Holders) else list(islice(hits.items(), count))
        return dict([each for each in most if each[0] in seats.open][:_DEEPEST])
