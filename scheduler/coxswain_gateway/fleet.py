"""What replicas say, and what becomes of it: members, load, tokens.

Everything runs on one event loop and nothing here waits, so each message is handled whole, in the order it came.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from coxswain_gateway.canary import Canary
from coxswain_gateway.ledger import Ledger
from coxswain_gateway.members import AttentiveClock, Link, Member, Members
from coxswain_gateway.recorder import Recorder
from coxswain_gateway.settings import Settings
from coxswain_gateway.statistics import Statistics
from coxswain_gateway.streams import Streams
from coxswain_protocol.messages import Beat, Blocks, Hello, Leaving, Step
from coxswain_protocol.status import GatewayStatus
from coxswain_protocol.traffic import Traffic
from coxswain_scheduler.interface import Policy
from coxswain_scheduler.policies.coxswain import Coxswain

log = logging.getLogger(__name__)

TICK_SECONDS = 0.05
_LEAVE_MARGIN_SECONDS = 1.0
"""Streams that could not move faithfully leave a member this long before its time is up."""


class Fleet:
    """The members of one service as one gateway sees them, and the streams on them."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        policy: Policy | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._settings = settings
        self.clock = clock
        self._attention = AttentiveClock(now=clock(), period=TICK_SECONDS)
        self._canary = Canary(idle_seconds=settings.canary_idle_seconds, clock=clock)
        self.statistics = Statistics()
        self.members = Members(heartbeat_limit=settings.heartbeat_limit)
        self.ledger = Ledger(self.statistics, clock=clock, recorder=recorder)
        self.streams = Streams(
            settings=settings,
            members=self.members,
            policy=policy or Coxswain(),
            statistics=self.statistics,
            ledger=self.ledger,
            clock=clock,
        )
        self.cluster = self.streams.cluster
        self._recorder = recorder
        self.draining = False
        self._accepts_from = clock() + settings.alone_seconds
        self._accepts = False

    @property
    def accepts(self) -> bool:
        """Clients may be sent to this gateway: it has, or once had, a replica, or has waited for one long enough.

        Without any replica it is here that clients learn so, with a 503 that says when to come again: a Service whose
        gateways were all unready would refuse their connections.
        """
        self._accepts = self._accepts or self.ready or self.clock() >= self._accepts_from
        return self._accepts and not self.draining

    @property
    def ready(self) -> bool:
        """There is somebody to send a request to, who has served a token."""
        return any(member.proved for member in self.members.open())

    def joined(self, hello: Hello, link: Link) -> Member:
        """A replica whose hello was accepted, and whose tokenizer is at hand."""
        member = self.members.find(hello)
        if member is None:
            member, older = self.members.add(hello, attentive=self._attention.now)
            for former in older:
                self._superseded(former)
        elif member.link is not None:
            self._disconnected(member)
        member.info, member.link = hello.info, link
        member.leaving_until = None
        self.cluster.add(member)
        if self._recorder is not None:
            self._recorder.engine(member, self.clock())
        self._heard(member)
        log.info("replica joined", extra={"replica": member.replica, "incarnation": member.incarnation})
        if hello.draining:
            self.leaving(member, Leaving(self._settings.hold_seconds))
        else:
            self.cluster.open(member)
            self._canary.send(member)
            self._welcomed()
        return member

    def beat(self, member: Member, beat: Beat) -> None:
        """A sign of life."""
        self._heard(member)
        member.load = beat.load
        self.cluster.reported(member, beat.load)

    def step(self, member: Member, step: Step) -> None:
        """One engine step with this gateway's tokens."""
        self._heard(member)
        now = self.clock()
        member.load = step.load
        if self._recorder is not None:
            self._recorder.step(member, step.event, now)
        changed = self.cluster.stepped(member, step.event, step.load)
        if step.removed:
            self.cluster.roster.removed(member, step.removed)
        if step.stored:
            self.cluster.roster.stored(member, step.stored)
        for chunk in step.chunks:
            if member.canary is not None and self._canary.take(member, chunk, now):
                self._welcomed()
            else:
                self.streams.take(member, chunk, now)
        if changed:
            self.cluster.changed(member)

    def blocks(self, member: Member, blocks: Blocks) -> None:
        """All the KV blocks that the replica can reuse."""
        self._heard(member)
        self.cluster.roster.holds(member, blocks.hashes)

    def leaving(self, member: Member, leaving: Leaving) -> None:
        """The replica drains."""
        self._heard(member)
        member.leaving_until = self.clock() + leaving.seconds
        member.may_finish = leaving.finish
        log.info("replica leaves in %g s", leaving.seconds, extra={"replica": member.replica})
        self.cluster.close(member)
        if not member.may_finish:
            self.streams.leave(member)

    def closed(self, member: Member, link: Link) -> None:
        """The connection is gone: the streams move now, the member is lost only when it stays silent."""
        if member.link is link:
            log.warning("replica's connection closed", extra={"replica": member.replica})
            self._disconnected(member)

    def tick(self) -> None:
        """Let time pass; to be called every TICK_SECONDS."""
        now = self.clock()
        self._attention.tick(now)
        self.statistics.loop_lag = self._attention.lag
        for member in self.members.silent(self._attention.now):
            self.statistics.heartbeat_losses += 1
            log.warning("replica lost: silent for too long", extra={"replica": member.replica})
            self.cluster.close(member)
            self.streams.move_all(member, "lost")
        for member in self.members.expire(self._attention.now):
            self.cluster.drop(member)
        for member in self.members:
            self._canary.tick(member, now)
            if member.leaving_until is not None and now >= member.leaving_until - _LEAVE_MARGIN_SECONDS:
                self.streams.leave(member, at_last=True)
        self.cluster.tick()
        self.streams.tick(now)

    def status(self) -> GatewayStatus:
        """The status page."""
        now, attentive = self.clock(), self._attention.now
        members = tuple(
            member.status(streams=self.streams.count(member), attentive=attentive, now=now) for member in self.members
        )
        ages = [member.token_age for member in members if member.token_age is not None]
        return GatewayStatus(
            gateway=self._settings.gateway,
            members=members,
            streams=self.ledger.live,
            waiting=self.ledger.waiting,
            token_age=min(ages, default=None),
            canary_error=self._canary.error,
            ttft=self.statistics.ttft.status(),
            inter_token=self.statistics.inter_token.status(),
            requests=self.statistics.accepted,
            lost=self.statistics.lost,
            replays=self.statistics.replays.total(),
            draining=self.draining,
        )

    def traffic(self, since: str) -> Traffic:
        """What happened since that cursor."""
        return self.ledger.traffic.report(since, now=self.clock(), engines=self.cluster.engines.values())

    def predicted_wait(self) -> float:
        """Seconds after which a new request may expect its turn, at the best replica."""
        wait = self.cluster.predicted_wait()
        return self._settings.hold_seconds if wait is None else wait

    def cost_errors(self) -> dict[tuple[str, str, str], float]:
        """How far predicted steps are off, by (engine, accelerator, model)."""
        return self.cluster.roster.cost_errors()

    def _heard(self, member: Member) -> None:
        member.heard = self._attention.now
        if member.lost:
            member.lost = False
            log.info("replica is back: it was a false alarm", extra={"replica": member.replica})
            if member.open:
                self.cluster.open(member)
            self._welcomed()

    def _welcomed(self) -> None:
        """There may be room for what was held, and for what waits to leave another member."""
        self.streams.retry()
        for member in self.members:
            if member.leaving_until is not None and not member.may_finish:
                self.streams.leave(member)

    def _disconnected(self, member: Member) -> None:
        link, member.link = member.link, None
        member.canary = None
        self.cluster.drop(member)
        self.streams.move_all(member, "closed")
        if link is not None:
            link.close()

    def _superseded(self, former: Member) -> None:
        log.info("a newer incarnation takes over", extra={"replica": former.replica})
        link, former.link = former.link, None
        self.cluster.drop(former)
        self.streams.move_all(former, "superseded")
        if link is not None:
            link.close()
