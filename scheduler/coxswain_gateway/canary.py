"""One-token requests that prove a replica serves: before its first traffic, and after each long idle time."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from secrets import token_hex

from coxswain_gateway.members import Member
from coxswain_protocol.messages import Abort, Chunk, Request, Sampling, Submit

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 5.0


class Canary:
    """Sends canaries and reads their answers. Times are monotonic seconds."""

    def __init__(self, *, idle_seconds: float, clock: Callable[[], float]) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._numbers = itertools.count(1)
        self._name = f"canary-{token_hex(4)}"
        self.error = ""
        """Why the last canary of any replica failed; empty after one that did not."""

    def send(self, member: Member) -> None:
        """Ask for one greedy token."""
        member.canary = f"{self._name}-{next(self._numbers)}#1"
        member.canary_sent = self._clock()
        sampling = Sampling(seed=0, temperature=0.0, max_tokens=1, ignore_eos=True)
        member.send(Submit(Request(id=member.canary, prompt=(0,), sampling=sampling)))

    def take(self, member: Member, chunk: Chunk, now: float) -> bool:
        """Whether the chunk was the answer. A first good answer proves the member."""
        if chunk.id != member.canary:
            return False
        if chunk.tokens:
            member.proved = True
            member.token_at = now
            self._settle(member, "")
        elif chunk.finish is not None:
            self._settle(member, chunk.finish.message or f"finished with {chunk.finish.reason}, without a token")
        return True

    def tick(self, member: Member, now: float) -> None:
        """Send another when the member was idle for long, and give up on one that is not answered."""
        if not member.open:
            return
        if member.canary is not None:
            if now - member.canary_sent > TIMEOUT_SECONDS:
                member.send(Abort(member.canary))
                self._settle(member, f"no token within {TIMEOUT_SECONDS:g} s")
        elif self._due(member, now):
            self.send(member)

    def _due(self, member: Member, now: float) -> bool:
        if not member.proved or member.canary_error:
            return now - member.canary_sent > RETRY_SECONDS
        return member.token_at is None or now - member.token_at > self._idle_seconds

    def _settle(self, member: Member, error: str) -> None:
        member.canary = None
        if error and not member.canary_error:
            log.warning("canary failed: %s", error, extra={"replica": member.replica})
        member.canary_error = error
        self.error = f"{member.replica}: {error}" if error else ""
