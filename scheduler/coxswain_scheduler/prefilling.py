"""Which engine computes a prompt: the one where its prefill and its wait together cost least.

An engine is a seat that is free at some moment. Waiting for a seat that holds the prefix costs this request some of its
slack; computing the prefix anew elsewhere costs everybody capacity. So a second of waiting is worth only a part of a
second of prefill, as long as the request is in time. Where engines also decode, a prompt waits until the decodes can
afford the stall: every step that is faster than the inter-token objective saves some of it up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import inf
from operator import itemgetter
from typing import NamedTuple

from coxswain_scheduler.costs.timing import Timing, Work
from coxswain_scheduler.openings import Openings
from coxswain_scheduler.policies.interface import Cluster, Engine
from coxswain_scheduler.prefixes import Holders
from coxswain_scheduler.queueing import Job

_GRAIN_BITS, _START_BITS = 6, 12
"""Prompts whose uncached lengths differ by less than 64 tokens, and cached ones by 4,096, count as equal."""
_FULL = 1.0
"""Seconds after which an engine without room, or without time to spare, is taken to have some."""
_LEAST_EARNED = 1e-3
_LATE = 10.0
"""Seconds that being late costs, on top of how late."""
_DISTURBANCE = 0.1
"""What stalling another request for a second costs, in seconds of prefill."""
_SPREAD, _HASTE = 5.0, 100.0
"""What a slower decode step costs, in steps; for a high priority."""
_FULLNESS = 0.3
"""What a full KV memory costs, in seconds of prefill: those in it are soon preempted."""
_WEAR = 0.25
"""What computing a prompt costs, in its own seconds, where twice as much is computed as elsewhere: the cache of such an
engine forgets twice as soon, so what it evicts is twice as young."""
_RENORMALISE = 1e100
_CROWDING = 0.5
"""What it costs to decode beside a request of a high priority, for others, in seconds of prefill."""
_FEW = 24
"""Seats up to which each is looked at."""
_DEEPEST, _HOLDERS = 4, 16
"""Else: so many of those that hold most, found among as many holders, and some of those that are or will be ready."""
_USUAL = 0.4
"""Seconds of a prefill by which seats are listed: what they cost another."""


_COST = itemgetter(5)


class Seat:
    """One engine as a place to prefill."""

    __slots__ = (
        "blocks",
        "credit",
        "decoding",
        "earned",
        "engine",
        "free_at",
        "id",
        "kind",
        "looked",
        "overwrites",
        "step",
        "used",
    )

    def __init__(self, engine: Engine, kind: dict[int, float]) -> None:
        self.engine = engine
        self.id = engine.id
        self.kind = kind
        """Seconds of a prefill by uncached and cached tokens, shared by engines of one timing."""
        self.free_at = 0.0
        """When the prompts that it was given are computed."""
        self.credit = 0.0
        """Seconds that its decodes can afford to stall."""
        self.earned = 0.0
        """Seconds of stalls that they save up in each second; 0 where nothing decodes."""
        self.decoding = 0
        self.used = 0.0
        """Share of its KV that sequences hold."""
        self.step = 0.0
        """Seconds of their step."""
        self.blocks = 0
        """For which there is room."""
        self.looked = -1.0
        self.overwrites = 0.0
        """Tokens that it has computed, and so evicted as many from its cache; later ones weigh more."""


class Candidate(NamedTuple):
    """One engine that was considered, in seconds and tokens."""

    engine: int
    cached: int
    wait: float
    prefill: float
    step: float
    cost: float


class Choice(NamedTuple):
    """Why a prompt is computed where it is. Worded when it is read."""

    rule: str
    prompt: int
    chosen: int
    considered: list[float]
    """The figures of one candidate after the other: not an object each, for these would be many."""

    @property
    def candidates(self) -> list[Candidate]:
        """Who was considered."""
        figures = iter(self.considered)
        rows = zip(*[figures] * len(Candidate._fields), strict=True)
        return [Candidate(int(engine), int(cached), *seconds) for engine, cached, *seconds in rows]

    def __str__(self) -> str:
        looks = "; ".join(
            f"engine {each.engine}: TTFT {each.wait + each.prefill:.3f} s (wait {each.wait:.3f}, {each.cached} of"
            f" {self.prompt} tokens cached), step {each.step * 1e3:.1f} ms, cost {each.cost:.3f}"
            for each in self.candidates
        )
        return f"engine {self.chosen} by {self.rule}: {looks}"


class Prefilling:
    """The seats, and the choice among them."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        patience: float,
        fill: int,
        stall: float,
        pace: float,
        spare: Callable[[Engine], int],
        urgent: Callable[[int], int],
    ) -> None:
        """See `Coxswain` for the constants. `spare`: blocks that an engine's decodes will not need; `urgent`: how many
        of a high priority are on an engine."""
        self._cluster = cluster
        self._spare = spare
        self._urgent = urgent
        self._cleared: tuple[Job, Seat] | None = None
        """Who waits for room, and where others leave it some."""
        self._patience = patience
        self._fill = fill
        self._stall = stall * cluster.objectives.inter_token
        self._target = cluster.objectives.inter_token * pace
        self._kinds: dict[Timing, dict[int, float]] = {}
        self._samples: dict[int, Seat] = {}
        """One seat of each kind."""
        self._openings: Openings[Seat] = Openings()
        """The open seats, where there are many."""
        self._weight = 1.0
        """Of a token computed now, among `overwrites`: it doubles with each half of the fleet's memory computed."""
        self._memory = 0
        self._fair = 0.0
        """1 / the mean of all seats' `overwrites`."""
        self.many = False
        """Whether only a few of them are looked at."""
        self.seats: dict[int, Seat] = {}
        self.open: dict[int, Seat] = {}
        """Those that take prompts."""

    def add(self, engine: Engine) -> Seat:
        """A seat, open."""
        seat = self.seats[engine.id] = Seat(engine, self._kinds.setdefault(engine.timing, {}))
        self._samples[id(seat.kind)] = seat
        self._memory += engine.total_blocks * engine.block_size
        self.reopen(seat)
        return seat

    def drop(self, engine: int) -> None:
        """It is gone."""
        self.close(engine)
        if self._cleared is not None and self._cleared[1].id == engine:
            self._cleared = None
        gone = self.seats.pop(engine, None)
        if gone is not None and self._samples[id(gone.kind)] is gone:
            self._samples = {id(seat.kind): seat for seat in self.seats.values()}

    def close(self, engine: int) -> bool:
        """It takes no more prompts; whether it did."""
        seat = self.open.pop(engine, None)
        if seat is None:
            return False
        if len(self.open) > _FEW:
            self._openings.take(engine)
        elif self.many:
            self.many, self._openings = False, Openings()
        return True

    def reopen(self, seat: Seat) -> None:
        """It takes prompts from now on."""
        seat.free_at = self._cluster.now
        self.open[seat.id] = seat
        if len(self.open) > _FEW:
            for each in [seat] if self.many else self.open.values():
                self._list(each)
            self.many = True

    def seconds(self, seat: Seat, uncached: int, cached: int) -> float:
        """Of a prefill of so many tokens behind so many cached ones, alone on an engine."""
        key = uncached >> _GRAIN_BITS | cached >> _START_BITS << 20
        seconds = seat.kind.get(key)
        if seconds is None:
            seconds = seat.kind[key] = _prefill_seconds(seat.engine, uncached, cached)
        return seconds

    def look(self, job: Job) -> None:
        """See what the engines hold of the prompt."""
        job.hits = hits = self._cluster.holders(job.request)
        job.looked = self._cluster.now
        tokens, seats, least = job.tokens, self.seats, inf
        job.awaits = None
        if len(seats) > _FEW:
            job.deepest = self._deepest(hits)
            hits = job.deepest
        alike = self.many and len(self._samples) == 1
        for engine, cached in hits.items():
            if (seat := seats.get(engine)) is not None:
                least = min(least, self.seconds(seat, tokens - cached, cached))
                if alike:
                    break  # the others hold less
        if least == inf or len(self._samples) > 1:
            least = min(least, min((self.seconds(seat, tokens, 0) for seat in self._samples.values()), default=0.0))
        job.needs(least)

    def choose(self, job: Job, *, alone: bool) -> tuple[Seat, float] | None:
        """The best seat, and its prefill's seconds, if it can begin now; None while it is best to wait.

        `alone`: the seats only prefill.
        """
        now = self._cluster.now
        patience, deadline, tokens = self._patience, job.deadline, job.tokens
        considered: list[float] = []
        fair, many, places = self._fair, self.many, job.request.places
        wear = _WEAR if fair else 0.0
        best, least, chosen, begin = None, inf, 0.0, now
        for seat, cached in self._candidates(job, now):
            if self._cleared is not None and seat is self._cleared[1] and job is not self._cleared[0]:
                continue
            if places is not None and seat.id not in places:
                continue
            uncached = tokens - cached
            seconds = seat.kind.get(uncached >> _GRAIN_BITS | cached >> _START_BITS << 20)
            if seconds is None:
                seconds = self.seconds(seat, uncached, cached)
            start = seat.free_at
            if not (alone or (many and not seat.earned)):
                start = self._affordable(seat, tokens, seconds, now)
            wait = start - now if start > now else 0.0
            cost = seconds + patience * wait + wear * seconds * (seat.overwrites * fair - 1.0)
            if seat.decoding and not alone:
                cost += patience * self._toll(seat, seconds, job.request.priority > 0)
            if now + wait + seconds > deadline:
                cost += _LATE + now + wait + seconds - deadline
            considered += (seat.id, cached, wait, seconds, seat.step, cost)
            if cost < least:
                best, least, chosen, begin = seat, cost, seconds, start
        if best is not None and begin <= now and not self.ready(best):
            best, chosen = self._instead(best, least, considered, now)
        if best is None or begin > now or not self.ready(best):
            job.awaits, job.cost = best, least
            return None
        job.decision = Choice(f"least prefill + {patience:g} × wait", tokens, best.id, considered)
        return best, chosen

    def _instead(self, best: Seat, least: float, considered: list[float], now: float) -> tuple[Seat, float]:
        """Who could begin now, where the wait for the end of the best one's step costs more than to take another."""
        limit = least + self._patience * (best.engine.busy_until - now)
        fields = iter(considered)
        rows = sorted(zip(fields, fields, fields, fields, fields, fields, strict=True), key=_COST)
        for engine, _, wait, seconds, _, cost in rows:
            if cost >= limit:
                break
            seat = self.seats[int(engine)]
            if not wait and self.ready(seat):
                return seat, seconds
        return best, 0.0

    def relearn(self) -> None:
        """Engines' cost models have learnt: ask them anew."""
        for timing, seconds in self._kinds.items():
            if hasattr(timing, "learn"):
                seconds.clear()

    def clear(self, job: Job) -> None:
        """Have others leave room for a prompt that finds none: where the most is spare."""
        tokens, now = job.tokens, self._cluster.now
        if self._cleared is not None or self.many or not self.open:
            return
        if any(seat.blocks * seat.engine.block_size >= tokens or seat.looked != now for seat in self.open.values()):
            return
        most = max(self.open.values(), key=lambda seat: seat.blocks)
        if most.engine.total_blocks * most.engine.block_size >= tokens:
            self._cleared = job, most

    def release(self, job: Job) -> None:
        """It waits no more."""
        if self._cleared is not None and self._cleared[0] is job:
            self._cleared = None

    @property
    def wanted(self) -> tuple[int, int] | None:
        """The engine where room is made, and the blocks that are wanted there."""
        if self._cleared is None:
            return None
        job, seat = self._cleared
        return seat.id, -(-job.tokens // seat.engine.block_size)

    def ready(self, seat: Seat) -> bool:
        """Whether it can take another prompt into its next step."""
        engine, now = seat.engine, self._cluster.now
        if engine.waiting:
            return False
        if engine.running == 0:
            return True
        if engine.decoding:
            return not engine.pending_prefill
        return seat.free_at <= now and engine.busy_until <= now

    def given(self, seat: Seat, seconds: float, *, uncached: int, alone: bool) -> None:
        """It has been given a prompt with so many tokens to compute."""
        self._overwrite(seat, uncached)
        if not alone:
            seat.credit -= seconds
            seat.blocks = 0  # it takes no more until its next step
        if self.many:
            seat.free_at = max(self._cluster.now, seat.free_at) + seconds
            self._openings.take(seat.id)  # likewise: `refresh` lists it again
        else:
            seat.free_at = max(self._cluster.now, seat.free_at, seat.engine.busy_until) + seconds

    def _overwrite(self, seat: Seat, tokens: int) -> None:
        seat.overwrites += tokens * self._weight
        self._weight *= 2.0 ** (2.0 * tokens / self._memory)
        if self._weight > _RENORMALISE:
            for each in self.seats.values():
                each.overwrites /= self._weight
            self._fair, self._weight = 0.0, 1.0
        if not self._fair:
            total = sum(each.overwrites for each in self.seats.values())
        else:
            total = len(self.seats) / self._fair + tokens * self._weight
        self._fair = len(self.seats) / total if total else 0.0

    def refresh(self, seat: Seat) -> None:
        """Between two steps: when it will have computed what it has."""
        pending, now = seat.engine.pending_prefill, self._cluster.now
        seat.free_at = now if pending < self._fill else now + self.seconds(seat, pending, 0)
        if self.many:
            self._look_at_decodes(seat, now)
            self._list(seat)

    def settle(self, seat: Seat) -> None:
        """It has been given what there is for it: what it has yet to compute keeps it from more, up to its next step.

        Where there are few seats, that is found out when one is the best."""
        pending = seat.engine.pending_prefill
        if self.many and pending and seat.id in self.open:
            seat.free_at = max(seat.free_at, self._cluster.now + self.seconds(seat, pending, 0))
            self._list(seat)

    def relist(self) -> None:
        """Of many seats, order anew those that are ready: what one has computed weighs less with time."""
        for seat in self.open.values():
            if seat.id in self._openings:
                self._list(seat)

    def busy_for(self) -> float:
        """Seconds until the open seats are free, on average."""
        now = self._cluster.now
        if self.many:
            return self._openings.waits(now) / len(self.open)
        return sum(max(0.0, seat.free_at - now) for seat in self.open.values()) / max(1, len(self.open))

    def room(self, seat: Seat, blocks: int) -> None:
        """So many blocks are left there, as of now."""
        seat.blocks = blocks

    def may_suit(self, job: Job, seat: Seat) -> bool:
        """Whether a seat that is ready now may be the best for a job that waits: if it waits for that one, or if it
        would cost less there. Where there are few seats it is found out by choosing."""
        if not self.many or job.awaits is None or job.awaits is seat:
            return True
        cached = job.hits.get(seat.id, 0)
        seconds = self.seconds(seat, job.tokens - cached, cached)
        cost = seconds + self._patience * self._toll(seat, seconds, job.request.priority > 0)
        return cost + _WEAR * seconds * (seat.overwrites * self._fair - 1.0) < job.cost

    def _candidates(self, job: Job, now: float) -> Iterable[tuple[Seat, int]]:
        """Those to compare, and the tokens that they hold."""
        held = job.hits.get
        if not self.many:
            return [(seat, held(key, 0)) for key, seat in self.open.items()]
        seats, deepest = self.open, job.deepest
        looks = [(seat, held(seat.id, 0)) for seat in self._openings.first(now)]
        least = looks[0][1] if looks and len(self._samples) == 1 else -1  # who holds no more is no better than that one
        known = [seat.id for seat, _ in looks]
        for key, cached in deepest.items():
            if cached > least and key in seats and key not in known:
                looks.append((seats[key], cached))
        return looks

    def _deepest(self, hits: Mapping[int, int]) -> dict[int, int]:
        """The open seats that hold most, and how much."""
        count = _DEEPEST if len(self.open) == len(self.seats) else _HOLDERS
        most = hits.most(count) if isinstance(hits, Holders) else list(islice(hits.items(), count))
        return dict([each for each in most if each[0] in self.open][:_DEEPEST])

    def _list(self, seat: Seat) -> None:
        """It is open, and when it is ready for another prompt: with time to spare for any, or at a next look."""
        now, ready_at = self._cluster.now, seat.free_at
        if seat.earned:
            lacking = self._stall - seat.credit
            if lacking > 0:
                ready_at = max(now, ready_at) + min(_FULL, lacking / seat.earned)
            if seat.blocks <= 0:
                ready_at = max(ready_at, now + _FULL)
        toll = self._patience * self._toll(seat, _USUAL, False) + _WEAR * _USUAL * seat.overwrites * self._fair
        self._openings.put(seat.id, seat, kind=id(seat.kind), ready_at=ready_at, toll=toll, now=now)

    def _toll(self, seat: Seat, seconds: float, urgent: bool) -> float:
        """What the decodes there cost the request, and it them."""
        toll = _DISTURBANCE * seat.decoding * seconds + _FULLNESS * seat.used
        if urgent:
            return toll + _HASTE * seat.step
        return toll + _SPREAD * seat.step + _CROWDING * self._urgent(seat.id)

    def _affordable(self, seat: Seat, tokens: int, seconds: float, now: float) -> float:
        """When the decodes of an engine can afford the stall of a prefill of so many seconds."""
        if not self.many:
            if seat.looked != now:
                self._look_at_decodes(seat, now)
        elif seat.earned:
            seat.credit = min(self._stall, seat.credit + (now - seat.looked) * seat.earned)
            seat.looked = now
        if not seat.earned:
            return seat.free_at
        if seat.blocks * seat.engine.block_size < tokens:
            return now + _FULL
        lacking = min(seconds, self._stall) - seat.credit
        if lacking <= 0:
            return seat.free_at
        return max(now, seat.free_at) + min(_FULL, lacking / seat.earned)

    def _look_at_decodes(self, seat: Seat, now: float) -> None:
        engine, since = seat.engine, seat.looked
        seat.looked = now
        seat.decoding = decoding = engine.decoding
        if not decoding:
            seat.credit, seat.earned, seat.step, seat.used = self._stall, 0.0, 0.0, 0.0
            return
        seat.step = engine.timing.decode_seconds(decoding, engine.context, 1)
        seat.earned = max(_LEAST_EARNED, 1.0 - seat.step / self._target)
        seat.credit = min(self._stall, seat.credit + (now - since) * seat.earned)
        seat.blocks = self._spare(engine)
        seat.used = 1.0 - engine.free_blocks / engine.total_blocks


def _prefill_seconds(engine: Engine, uncached: int, cached: int) -> float:
    timing, budget = engine.timing, engine.step_tokens
    seconds, done = 0.0, 0
    while done < uncached:
        count = min(budget, uncached - done)
        start = cached + done
        seconds += timing.seconds(Work(count, count * start + count * (count + 1) // 2))
        done += count
    return seconds
