"""One sequence being generated, wherever it runs at the moment."""

from __future__ import annotations

from typing import Protocol

from coxswain_gateway.members import Member
from coxswain_gateway.token_log import TokenLog
from coxswain_protocol.messages import EngineInfo


class Listener(Protocol):
    """Who wants a sequence's tokens. Called from the reader of the replicas, so it must return at once."""

    def advanced(self) -> None:
        """The log grew, the generation ended, or it waits for a replica and a sign of life is due."""


class Generation:
    """A token log with its place and its times (seconds, monotonic). It ends exactly once."""

    def __init__(self, log: TokenLog, listener: Listener, *, tokenizer: str, now: float, priority: int = 0) -> None:
        self.log = log
        self.listener = listener
        self.tokenizer = tokenizer
        """Digest of the tokenizer its ids belong to: they mean nothing to a replica with another one."""
        self.priority = priority
        """Higher goes first; below 0 is batch work, which takes what the others leave."""
        self.member: Member | None = None
        self.note: object = None
        """The cluster's own, while it is placed or waits for a place."""
        self.faithful = True
        """Where it may go it goes on as promised."""
        self.replica = ""
        """Name of the replica it runs on, or ran on last."""
        self.origin: EngineInfo | None = None
        """The engine that made the first token: what a replay is exact with."""
        self.avoid: Member | None = None
        """Where the last attempt went wrong: not there again, if there is anywhere else."""
        self.created = now
        self.first_token_at: float | None = None
        self.last_token_at = now
        self.interrupted_at: float | None = None
        self.held_until: float | None = None
        """Set while no replica can take it."""
        self.fruitless = 0
        """Attempts in a row that brought no token."""
        self.failures = 0
        """Attempts in a row that the engine itself gave up."""
        self.error: str | None = None
        """Why it failed, for the client."""
        self.shed = False
        """It was refused for the others' sake, before it began."""
        self.over = False

    @property
    def held(self) -> bool:
        """Waiting for a replica, because there is none."""
        return self.held_until is not None
