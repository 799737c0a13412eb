"""The replicas a gateway knows, and its judgement of each: Ready, Draining or Lost.

A replica is judged by its heartbeats. A closed connection only means that its streams must go elsewhere now, silence
that it is lost; if it comes back, it was a false alarm, which cost a replay and no stream.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Protocol

from coxswain_protocol.messages import EngineInfo, FromGateway, Hello, Load
from coxswain_protocol.status import MemberState, MemberStatus

log = logging.getLogger(__name__)

FORGET_SECONDS = 600.0
"""A lost replica stays on the status page for this long."""
_SUPERSEDED_KEPT = 1024


class Link(Protocol):
    """The connection to a replica."""

    def send(self, message: FromGateway) -> None:
        """Queue one message; never waits."""

    def close(self) -> None:
        """Close after what is queued."""


class AttentiveClock:
    """Time during which this process was listening.

    If its event loop stands still for two seconds, no replica was silent for two seconds: nobody heard. So each tick
    adds at most a little more than its period.
    """

    def __init__(self, *, now: float, period: float) -> None:
        self.now = 0.0
        self.lag = 0.0
        """Seconds that did not count, in all."""
        self._last = now
        self._most = 2 * period

    def tick(self, now: float) -> None:
        """Advance to monotonic time `now`."""
        elapsed, self._last = now - self._last, now
        counted = min(elapsed, self._most)
        self.now += counted
        self.lag += elapsed - counted


class Member:
    """One engine process: a replica's name and incarnation."""

    def __init__(self, hello: Hello, *, heard: float) -> None:
        self.replica = hello.replica
        self.incarnation = hello.incarnation
        self.key = f"{hello.replica}/{hello.incarnation}"
        self.info: EngineInfo = hello.info
        self.link: Link | None = None
        self.lost = False
        self.heard = heard
        """Attentive time of the last message."""
        self.leaving_until: float | None = None
        """Monotonic time until which its streams must have left; None while it stays."""
        self.may_finish = False
        """While leaving: its streams are to finish here if they can."""
        self.proved = False
        """It has produced a token for this gateway."""
        self.token_at: float | None = None
        self.canary: str | None = None
        self.canary_sent = 0.0
        self.canary_error = ""
        self.load = Load()

    @property
    def state(self) -> MemberState:
        """As the status page has it."""
        if self.lost:
            return "Lost"
        return "Ready" if self.leaving_until is None else "Draining"

    @property
    def open(self) -> bool:
        """It can be sent new work."""
        return self.link is not None and not self.lost and self.leaving_until is None

    def send(self, message: FromGateway) -> None:
        """Send if there is a connection; otherwise there is nobody to tell."""
        if self.link is not None:
            self.link.send(message)

    def status(self, *, streams: int, attentive: float, now: float) -> MemberStatus:
        """As the status page has it, with the number of `streams` on it."""
        return MemberStatus(
            replica=self.replica,
            incarnation=self.incarnation,
            state=self.state,
            beat_age=max(0.0, attentive - self.heard),
            weights_digest=self.info.weights_digest,
            accelerator=self.info.accelerator,
            exact="exact" in self.info.features,
            step_floor_seconds=self.info.step_floor_seconds,
            streams=streams,
            token_age=None if self.token_at is None else now - self.token_at,
            load=self.load,
        )


class Members:
    """All members by (replica, incarnation); of one replica's incarnations only the newest is kept."""

    def __init__(self, *, heartbeat_limit: float) -> None:
        self._limit = heartbeat_limit
        self._members: dict[tuple[str, str], Member] = {}
        self._superseded: dict[tuple[str, str], None] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def open(self) -> list[Member]:
        """Those that can be sent new work."""
        return [member for member in self._members.values() if member.open]

    def is_superseded(self, hello: Hello) -> bool:
        """A newer incarnation of this replica has been here already."""
        return (hello.replica, hello.incarnation) in self._superseded

    def find(self, hello: Hello) -> Member | None:
        """The member that says hello again, if it is known."""
        return self._members.get((hello.replica, hello.incarnation))

    def add(self, hello: Hello, *, attentive: float) -> tuple[Member, list[Member]]:
        """A new member, and the older incarnations of its replica, which are no longer members."""
        older = [member for member in self._members.values() if member.replica == hello.replica]
        for member in older:
            self._forget(member)
            self._superseded[member.replica, member.incarnation] = None
        while len(self._superseded) > _SUPERSEDED_KEPT:
            del self._superseded[next(iter(self._superseded))]
        member = self._members[hello.replica, hello.incarnation] = Member(hello, heard=attentive)
        return member, older

    def silent(self, attentive: float) -> list[Member]:
        """Those that have just become lost; they are marked so."""
        lost = [m for m in self._members.values() if not m.lost and attentive - m.heard > self._limit]
        for member in lost:
            member.lost = True
        return lost

    def expire(self, attentive: float) -> list[Member]:
        """Forget those that have been lost for long; returns them."""
        gone = [m for m in self._members.values() if m.lost and attentive - m.heard > FORGET_SECONDS]
        for member in gone:
            self._forget(member)
        return gone

    def _forget(self, member: Member) -> None:
        del self._members[member.replica, member.incarnation]
