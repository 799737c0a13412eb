"""Which replica holds the KV of which prompt prefix, as far as this gateway has been told.

Block hashes are chained (each covers everything before it), so equal hashes mean equal prefixes, and the longest
run of known hashes from the start is the prefix a replica need not compute again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class PrefixIndex:
    """Holders of KV blocks by hash; members are named by strings."""

    def __init__(self) -> None:
        self._holders: dict[int, set[str]] = {}
        self._held: dict[str, set[int]] = {}

    def stored(self, member: str, hashes: Iterable[int]) -> None:
        """`member` can now reuse these blocks."""
        held = self._held.setdefault(member, set())
        for block in hashes:
            held.add(block)
            self._holders.setdefault(block, set()).add(member)

    def removed(self, member: str, hashes: Iterable[int]) -> None:
        """`member` has given these blocks up; those it never had are ignored."""
        held = self._held.get(member, set())
        for block in hashes:
            held.discard(block)
            self._forget(member, block)

    def replace(self, member: str, hashes: Iterable[int]) -> None:
        """`member` holds exactly these blocks."""
        self.drop(member)
        self.stored(member, hashes)

    def drop(self, member: str) -> None:
        """Nothing is known of `member` any more."""
        for block in self._held.pop(member, set()):
            self._forget(member, block)

    def hits(self, hashes: Sequence[int]) -> dict[str, int]:
        """Leading blocks of `hashes` that each member holds; members that hold none are absent."""
        found: dict[str, int] = {}
        running: set[str] | None = None
        for depth, block in enumerate(hashes, start=1):
            holders = self._holders.get(block)
            running = set(holders or ()) if running is None else running & (holders or set())
            if not running:
                break
            for member in running:
                found[member] = depth
        return found

    def _forget(self, member: str, block: int) -> None:
        holders = self._holders.get(block)
        if holders is not None:
            holders.discard(member)
            if not holders:
                del self._holders[block]
