"""The choice of a seat for a prompt, and the look at what the engines hold of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from math import inf
from operator import itemgetter
from typing import Final

from coxswain_scheduler.interface import Cluster
from coxswain_scheduler.prefilling.choice import Choice, Considered
from coxswain_scheduler.prefilling.clearing import Clearing
from coxswain_scheduler.prefilling.seat import Seat
from coxswain_scheduler.prefilling.seats import Seats
from coxswain_scheduler.prefixes import Holders
from coxswain_scheduler.queueing import Job

_LATE: Final = 10.0
"""Seconds that being late costs, on top of how late."""
_DEEPEST: Final = 4
_HOLDERS: Final = 16
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

    def look(self, job: Job, now: float) -> None:
        """See what the engines hold of the prompt."""
        job.hits = hits = self._cluster.holders(job.request)
        job.looked, job.awaits = now, None
        if self._seats.many and self._seats.durations.alike and isinstance(hits, Holders):
            job.needs(self._seats.durations.least(job.tokens - hits.top, hits.top))
        else:
            job.needs(self._least(job.tokens, _most(hits, _HOLDERS) if self._seats.many else hits.items()))

    def choose(self, job: Job, now: float, *, alone: bool) -> tuple[Seat, float, int] | None:
        """The best seat, its prefill's seconds and the tokens that it holds, if it can begin now; None while it is best
        to wait.

        `alone`: the seats only prefill.
        """
        many, urgent = self._seats.many, job.priority > 0
        patience, deadline, tokens, places = self._patience, job.deadline, job.tokens, job.request.places
        durations, stalls, tolls = self._seats.durations, self._seats.stalls, self._seats.tolls
        kept, considered = self.clearing.kept, Considered()
        best, least, chosen, held, begin = None, inf, 0.0, 0, now
        for seat, cached in self._short_list(job, now) if many else self._all(job):
            if (kept and kept.get(seat.id, job) is not job) or (places is not None and seat.id not in places):
                continue
            seconds = durations.seconds(seat, tokens - cached, cached)
            start = seat.free_at
            if not alone:
                if not many:
                    if seat.looked != now:
                        stalls.look(seat, now)
                    start = stalls.start(seat, tokens, seconds, now)
                elif seat.earned:
                    stalls.earn(seat, now)
                    start = stalls.start(seat, tokens, seconds, now)
            wait = start - now if start > now else 0.0
            cost = seconds + patience * wait + tolls.wear(seat, seconds)
            if seat.decoding and not alone:
                cost += tolls.toll(seat, seconds, urgent=urgent)
            if now + wait + seconds > deadline:
                cost += _LATE + now + wait + seconds - deadline
            considered.add(seat.id, cached, wait=wait, prefill=seconds, step=seat.step, cost=cost)
            if cost < least:
                best, least, chosen, held, begin = seat, cost, seconds, cached, start
        if best is not None and begin <= now:
            ready = best.ready(now)
            found = (best, chosen, held) if ready else self._instead(best, least, considered, now)
            if found is not None:
                job.decision = Choice(self._rule, tokens, found[0].id, considered)
                return found
        job.awaits, job.cost = best, least
        return None

    def may_suit(self, job: Job, seat: Seat) -> bool:
        """Whether a seat that is ready now may be the best for a job that waits: if it waits for that one, or if it
        would cost less there. Where there are few seats it is found out by choosing."""
        if not self._seats.many or job.awaits is None or job.awaits is seat:
            return True
        cached = _held(job.hits, seat.id)
        seconds, tolls = self._seats.durations.seconds(seat, job.tokens - cached, cached), self._seats.tolls
        cost = seconds + tolls.toll(seat, seconds, urgent=job.priority > 0)
        return cost + tolls.wear(seat, seconds) < job.cost

    def _instead(self, best: Seat, least: float, considered: Considered, now: float) -> tuple[Seat, float, int] | None:
        """Who could begin now, where the wait for the end of the best one's step costs more than to take another."""
        limit = least + self._patience * (best.engine.busy_until - now)
        for engine, cached, wait, seconds, _, cost in sorted(considered.rows(), key=_COST):
            if cost >= limit:
                break
            seat = self._seats.all[engine]
            if not wait and seat.ready(now):
                return seat, seconds, cached
        return None

    def _all(self, job: Job) -> list[tuple[Seat, int]]:
        """Every open seat, and the tokens that it holds."""
        hits = job.hits
        return [(seat, _held(hits, key)) for key, seat in self._seats.open.items()]

    def _least(self, tokens: int, held: Iterable[tuple[int, int]]) -> float:
        """Seconds of a prefill where that takes least."""
        seats, durations, least = self._seats.all, self._seats.durations, inf
        for engine, cached in held:
            seat = seats.get(engine)
            if seat is not None:
                least = min(least, durations.seconds(seat, tokens - cached, cached))
        if least == inf or not durations.alike:
            least = min(least, durations.least(tokens))
        return least

    def _short_list(self, job: Job, now: float) -> list[tuple[Seat, int]]:
        """Of many: those that are or will be ready and those that hold most, with what they hold."""
        seats, hits = self._seats, job.hits
        looks = [(seat, _held(hits, seat.id)) for seat in seats.openings.first(now)]
        over = self._ready_holder(hits, looks) if looks and seats.durations.alike else -1
        left = _DEEPEST
        for engine, cached in _most(hits, _DEEPEST if len(seats.open) == len(seats.all) else _HOLDERS, over):
            seat = seats.open.get(engine)
            if seat is not None and left:
                left -= 1
                if (seat, cached) not in looks:
                    looks.append((seat, cached))
        return looks

    def _ready_holder(self, hits: Mapping[int, int], looks: list[tuple[Seat, int]]) -> int:
        """What the first holds: of equal engines, who holds no more is no better. If it does not hold what most hold
        that hold any, the next that is ready and does is to be looked at too."""
        first, common = looks[0][1], hits.common if isinstance(hits, Holders) else 0
        if first >= common or any(cached >= common for _, cached in looks):
            return max(first, common)
        for seat in self._seats.openings.next():
            cached = _held(hits, seat.id)
            if cached >= common:
                looks.append((seat, cached))
                return common
        return first


def _held(hits: Mapping[int, int], engine: int) -> int:
    """Tokens that it holds."""
    return hits.held(engine) if isinstance(hits, Holders) else hits.get(engine, 0)


def _most(hits: Mapping[int, int], count: int, over: int = -1) -> list[tuple[int, int]]:
    """The first so many of those that hold more than `over`, with what they hold."""
    if isinstance(hits, Holders):
        return hits.most(count, over=over)
    return [(engine, cached) for engine, cached in islice(hits.items(), count) if cached > over]
