"""Which generations run on which member."""

from __future__ import annotations

from coxswain_gateway.generation import Generation
from coxswain_gateway.members import Member


class Attempts:
    """The current attempt at each generation that was sent to a member; `Generation.member` says to which."""

    def __init__(self) -> None:
        self._on: dict[Member, dict[str, Generation]] = {}
        """By attempt id; only members on which something runs."""

    def find(self, member: Member, attempt: str) -> Generation | None:
        """What `member` runs under this attempt id."""
        running = self._on.get(member)
        return None if running is None else running.get(attempt)

    def on(self, member: Member) -> list[Generation]:
        """All that runs on `member`."""
        return list(self._on.get(member, {}).values())

    def count(self, member: Member) -> int:
        """How many run on `member`."""
        return len(self._on.get(member, {}))

    def add(self, generation: Generation, member: Member) -> None:
        """Its current attempt runs on `member` from now on."""
        generation.member = member
        generation.replica = member.replica
        self._on.setdefault(member, {})[generation.log.attempt_id] = generation

    def remove(self, generation: Generation) -> Member | None:
        """It runs nowhere any more. Returns where it did."""
        member, generation.member = generation.member, None
        if member is not None:
            running = self._on[member]
            del running[generation.log.attempt_id]
            if not running:
                del self._on[member]
        return member
