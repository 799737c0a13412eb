"""Prompts on their way to an engine, which will soon hold their prefixes: a burst of one prefix can follow its first.

Nothing is noted for most blocks of a prompt. Each prompt hangs on a few anchors, its blocks at depths that grow
geometrically; a later prompt finds those that share its deepest known anchor, and as hashes are chained, how much they
share with it is found by halving.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import islice

_ANCHORS = (512, 64, 8, 1)
"""Depths in blocks."""
_LATEST = 4
"""Prompts compared with, the latest first: those before are soon in the prefix index, or are of other prompts."""

_Sent = tuple[int, Sequence[int]]


class Underway:
    """Prompts sent and not begun, by request."""

    def __init__(self) -> None:
        self._sent: dict[Hashable, _Sent] = {}
        self._anchored: dict[int, dict[Hashable, _Sent]] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, request: Hashable, seat: int, hashes: Sequence[int]) -> None:
        """A prompt of these chained block hashes goes to `seat`. The hashes are kept, not copied."""
        self.settle(request)
        sent = self._sent[request] = (seat, hashes)
        for depth in _ANCHORS:
            if depth <= len(hashes):
                self._anchored.setdefault(hashes[depth - 1], {})[request] = sent

    def settle(self, request: Hashable) -> None:
        """It has begun, ended or been withdrawn. An unknown request is ignored."""
        sent = self._sent.pop(request, None)
        if sent is None:
            return
        hashes = sent[1]
        for depth in _ANCHORS:
            if depth <= len(hashes):
                anchored = self._anchored[hashes[depth - 1]]
                del anchored[request]
                if not anchored:
                    del self._anchored[hashes[depth - 1]]

    def alike(self, hashes: Sequence[int]) -> Iterator[tuple[int, int]]:
        """(blocks shared, mask of the engine) of the latest prompts that share the most."""
        for depth in _ANCHORS:
            if depth <= len(hashes) and (anchored := self._anchored.get(hashes[depth - 1])):
                for seat, others in islice(reversed(anchored.values()), _LATEST):
                    yield _shared(hashes, others, depth), 1 << seat
                return


def _shared(these: Sequence[int], others: Sequence[int], least: int) -> int:
    """Leading blocks that both have, at least `least`."""
    most = min(len(these), len(others))
    if these[most - 1] == others[most - 1]:
        return most
    while least < most:
        middle = (least + most + 1) >> 1
        if these[middle - 1] == others[middle - 1]:
            least = middle
        else:
            most = middle - 1
    return least
