"""All live generations: where each runs, and how it goes on when it cannot run there any more.

Every accepted generation ends exactly once: finished by the engine, stopped by its listener (a stop string, a client
that left), or failed, when no replica came in time. Nothing here waits: replicas' messages and ticks push it along.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from coxswain_gateway.attempts import Attempts
from coxswain_gateway.cluster import LiveCluster
from coxswain_gateway.generation import Generation
from coxswain_gateway.held import Held
from coxswain_gateway.ledger import Ledger
from coxswain_gateway.members import Member, Members
from coxswain_gateway.places import Places
from coxswain_gateway.settings import Settings
from coxswain_gateway.statistics import Statistics
from coxswain_gateway.token_log import GapError
from coxswain_protocol.messages import Abort, Chunk, Finish, Submit
from coxswain_scheduler.interface import Objectives, Policy

log = logging.getLogger(__name__)

Cause = Literal["lost", "closed", "leaving", "gap", "abort", "error", "superseded"]

FRUITLESS_LIMIT = 5
"""Attempts in a row without a token before a sequence is suspected of killing its replicas."""
FAILURE_LIMIT = 2
"""Attempts in a row that an engine itself gave up, before its word is passed on to the client."""


class Streams:
    """Live generations, placed on members by the policy."""

    def __init__(
        self,
        *,
        settings: Settings,
        members: Members,
        policy: Policy,
        statistics: Statistics,
        ledger: Ledger,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._statistics = statistics
        self._ledger = ledger
        self._attempts = Attempts()
        self._held = Held(seconds=settings.hold_seconds, clock=clock)
        self.cluster = LiveCluster(
            policy,
            objectives=Objectives(ttft=settings.latest_ttft_seconds, inter_token=settings.inter_token_seconds),
            clock=clock,
            submit=self._submit,
            refuse=self._shed,
            review=self._review,
        )
        self._places = Places(members, exact=settings.replay == "Exact", engine_of=self.cluster.engine_of)

    @property
    def held(self) -> int:
        """Generations that no replica can take at the moment."""
        return len(self._held)

    def count(self, member: Member) -> int:
        """How many run on `member`."""
        return self._attempts.count(member)

    def start(self, generation: Generation) -> None:
        """Accept a new generation and place it."""
        self._ledger.accepted(generation)
        self._place(generation)

    def stop(self, generation: Generation, *, outcome: str) -> None:
        """End it from this side. Does nothing if it is over already."""
        if not generation.over:
            self._detach(generation, abort=True)
            self._end(generation, outcome)

    def take(self, member: Member, chunk: Chunk, now: float) -> None:
        """A chunk from `member`, received at monotonic time `now`."""
        generation = self._attempts.find(member, chunk.id)
        if generation is None:
            self._refuse_stale(member, chunk)
            return
        try:
            fresh = generation.log.append(chunk)
        except GapError as error:
            where = {"replica": member.replica, "request_id": chunk.id}
            log.warning("replica broke the protocol: %s", error, extra=where)
            self.move(generation, "gap")
            return
        if fresh:
            self._progressed(member, generation, fresh, now)
        if chunk.finish is not None:
            self._finished(generation, chunk.finish)
        elif fresh:
            generation.listener.advanced()

    def move_all(self, member: Member, cause: Cause) -> None:
        """Continue elsewhere whatever runs on `member`."""
        for generation in self._attempts.on(member):
            self.move(generation, cause)

    def leave(self, member: Member, *, at_last: bool = False) -> None:
        """Move what can keep its promise elsewhere off a leaving member; `at_last`, what can go on anywhere.

        What cannot go on anywhere stays: the member may yet finish it before it goes.
        """
        for generation in self._attempts.on(member):
            places = self._places.best(generation)
            if places and (generation.faithful or at_last):
                self.move(generation, "leaving")

    def move(self, generation: Generation, cause: Cause) -> None:
        """Continue on another member, from the log as it is."""
        generation.avoid = generation.member if cause in ("gap", "abort", "error") else None
        if cause in ("leaving", "superseded"):
            generation.fruitless = max(0, generation.fruitless - 1)
        self._detach(generation, abort=True, moves=True)
        self._statistics.replays[cause] += 1
        if generation.log.full:
            self._finished(generation, Finish("length"))
        elif self._settings.replay == "Disabled" and cause != "leaving":
            self._fail(
                generation, "its replica was lost, and this service does not replay (spec.resilience.replay: Disabled)"
            )
        elif generation.fruitless >= FRUITLESS_LIMIT:
            self._fail(generation, f"{generation.fruitless} replicas in a row were lost while working on this request")
        else:
            if generation.log.output and generation.interrupted_at is None:
                generation.interrupted_at = generation.last_token_at
            self._place(generation)

    def retry(self) -> None:
        """Members can do more than before: place what was held, and look anew where what waits may go."""
        self._review()
        for generation in self._held:
            self._place(generation)

    def tick(self, now: float) -> None:
        """Fail what was held for too long, and give signs of life to the clients of the rest."""
        for generation in self._held.overdue(now):
            self._fail(generation, f"no replica could take it for {self._settings.hold_seconds:g} s")
        self._held.remind(now)

    def _place(self, generation: Generation) -> None:
        places = self._places.best(generation)
        if places:
            self._held.release(generation)
            self.cluster.arrived(generation, places)
        else:
            self._held.add(generation)

    def _review(self) -> None:
        """Members have changed: where what waits with the policy may go. What may go nowhere is held."""
        for request in list(self.cluster.waiting.values()):
            if places := self._places.best(request.generation):
                self.cluster.constrain(request, places)
            else:
                self.cluster.ended(request.generation, moves=True)
                self._held.add(request.generation)

    def _submit(self, generation: Generation, member: Member) -> None:
        request = generation.log.next_attempt()
        if not generation.faithful:
            self._statistics.inexact_replays += 1
            generation.origin = member.info
        generation.fruitless += 1
        self._attempts.add(generation, member)
        self._statistics.replayed_tokens += len(request.output)
        member.send(Submit(request))

    def _detach(self, generation: Generation, *, abort: bool, moves: bool = False) -> None:
        """Take it off its member, the policy, or the held; `abort` tells the member."""
        self._held.forget(generation)
        self.cluster.ended(generation, moves=moves)
        member = self._attempts.remove(generation)
        if member is not None and abort:
            member.send(Abort(generation.log.attempt_id))

    def _refuse_stale(self, member: Member, chunk: Chunk) -> None:
        """Tokens of a superseded attempt: dropped, and its replica told so unless it has ended there anyway."""
        self._statistics.stale_chunks += 1
        if chunk.finish is None:
            member.send(Abort(chunk.id))

    def _progressed(self, member: Member, generation: Generation, fresh: int, now: float) -> None:
        member.token_at = now
        first = bool(generation.fruitless)
        if first:
            self._began(member, generation)
        self._ledger.progressed(generation, fresh, now, first=first)

    def _began(self, member: Member, generation: Generation) -> None:
        """The first token of an attempt."""
        generation.fruitless = generation.failures = 0
        self.cluster.began(generation)
        if generation.first_token_at is None:
            generation.origin = member.info

    def _finished(self, generation: Generation, finish: Finish) -> None:
        if finish.reason in ("abort", "error"):
            self._given_up(generation, finish)
            return
        self._detach(generation, abort=False)
        generation.log.finish = finish
        self._end(generation, finish.reason)

    def _given_up(self, generation: Generation, finish: Finish) -> None:
        """The engine gave it up, unasked: another may do better, unless it is the request that is at fault."""
        generation.failures += 1
        if generation.failures >= FAILURE_LIMIT:
            self._detach(generation, abort=False)
            self._fail(generation, finish.message or "the engine gave the request up", outcome="error")
        else:
            self.move(generation, "abort" if finish.reason == "abort" else "error")

    def _fail(self, generation: Generation, message: str, *, outcome: str = "lost") -> None:
        self._detach(generation, abort=True)
        generation.error = message
        if outcome == "lost":
            self._statistics.lost += 1
        log.error("request failed: %s", message, extra={"request_id": generation.log.id})
        self._end(generation, outcome)

    def _shed(self, generation: Generation, reason: str) -> None:
        """The policy refuses it: nothing of it was computed yet."""
        generation.error, generation.shed = reason, True
        self._end(generation, "shed")

    def _end(self, generation: Generation, outcome: str) -> None:
        generation.over = True
        self._ledger.ended(generation, outcome)
        generation.listener.advanced()
