"""All engines as places to prefill: which take prompts, and when each is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coxswain_scheduler.interface import Cluster, Engine
from coxswain_scheduler.openings import Openings
from coxswain_scheduler.prefilling.durations import Durations
from coxswain_scheduler.prefilling.seat import Seat
from coxswain_scheduler.prefilling.stalls import Stalls
from coxswain_scheduler.prefilling.tolls import Tolls

FEW: Final = 24
"""Seats up to which each is looked at."""


class Seats:
    """Seats by engine. Where many are open, they are also listed by when they are ready."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        patience: float,
        fill: int,
        stall: float,
        pace: float,
        spare: Callable[[Engine], int],
        hosts: set[int],
        lasting: dict[int, int],
        few: int = FEW,
    ) -> None:
        """See `Coxswain` for the constants. `spare`: blocks that an engine's decodes will not need; `hosts`: engines
        on which high priorities decode; `lasting`: how many long answers decode on each; `few`: up to so many open
        seats each is looked at."""
        target = pace * cluster.objectives.inter_token
        self.durations = Durations()
        self.stalls = Stalls(most=stall * cluster.objectives.inter_token, target=target, spare=spare)
        self.tolls = Tolls(patience=patience, hosts=hosts, lasting=lasting)
        self.few = few
        self.all: dict[int, Seat] = {}
        self.open: dict[int, Seat] = {}
        """Those that take prompts."""
        self.many = False
        """Whether only a few of the open ones are looked at."""
        self.openings: Openings[Seat] = Openings()
        """The open ones, where they are many, but for those that have just been given a prompt."""
        self._cluster = cluster
        self._fill = fill
        self._hosts = hosts

    def add(self, engine: Engine) -> Seat:
        """A seat, open."""
        seat = self.all[engine.id] = self.durations.seat(engine)
        self.tolls.add(seat)
        self.reopen(seat)
        return seat

    def drop(self, engine: int) -> None:
        """It is gone."""
        self.close(engine)
        self.tolls.drop(engine)
        gone = self.all.pop(engine, None)
        if gone is not None:
            self.durations.drop(gone, self.all.values())

    def close(self, engine: int) -> bool:
        """It takes no more prompts; whether it did."""
        seat = self.open.pop(engine, None)
        if seat is None:
            return False
        self._unlist(seat)
        if self.many and len(self.open) <= self.few:
            self.many = False
            for each in self.open.values():
                self._unlist(each)
        return True

    def reopen(self, seat: Seat) -> None:
        """It takes prompts from now on."""
        seat.free_at = self._cluster.now
        self.open[seat.id] = seat
        if len(self.open) > self.few:
            for each in [seat] if self.many else self.open.values():
                self._list(each)
            self.many = True

    def given(self, seat: Seat, seconds: float, now: float, *, uncached: int, alone: bool) -> None:
        """It has been given a prompt with so many tokens to compute; `alone`: beside no decodes."""
        self.tolls.computed(seat, uncached)
        if not alone:
            seat.credit -= seconds
            seat.blocks = 0  # it takes no more until its next step
        free_at = seat.free_at
        seat.free_at = (free_at if free_at > now else now) + seconds
        if self.many:
            self._unlist(seat)  # likewise: `refresh` lists it again
        else:
            seat.free_at = max(now, free_at, seat.engine.busy_until) + seconds

    def refresh(self, seat: Seat) -> None:
        """Between two steps: when it will have computed what it has."""
        pending, now = seat.engine.pending_prefill, self._cluster.now
        seat.free_at = now if pending < self._fill else now + self.durations.seconds(seat, pending, 0)
        if self.many:
            self.stalls.look(seat, now)
            self._list(seat)

    def settle(self, seat: Seat) -> None:
        """It has been given what there is for it: what it has yet to compute keeps it from more, up to its next step.

        Where there are few seats, that is found out when one is the best."""
        pending = seat.engine.pending_prefill
        if self.many and pending and seat.id in self.open:
            seat.free_at = max(seat.free_at, self._cluster.now + self.durations.seconds(seat, pending, 0))
            self._list(seat)

    def relist(self) -> None:
        """Of many seats, order anew those that are ready: what one has computed weighs less with time."""
        for seat in self.open.values():
            if seat.opening is not None:
                self._list(seat)

    def busy_for(self) -> float:
        """Seconds until the open seats are free, on average."""
        now = self._cluster.now
        if self.many:
            return self.openings.waits(now) / len(self.open)
        return sum(max(0.0, seat.free_at - now) for seat in self.open.values()) / max(1, len(self.open))

    def _list(self, seat: Seat) -> None:
        """It is open, and when it is ready for another prompt."""
        now = self._cluster.now
        self._unlist(seat)
        ready_at, toll = self.stalls.rested_at(seat, now), self.tolls.usual(seat)
        kind = id(seat.kind), seat.id in self._hosts  # so both high priorities and others find theirs
        seat.opening = self.openings.put(seat.id, seat, kind=kind, ready_at=ready_at, toll=toll, now=now)

    def _unlist(self, seat: Seat) -> None:
        """It is not ready for another prompt, as far as is known."""
        opening = seat.opening
        if opening is not None:
            seat.opening = None
            self.openings.take(opening)
