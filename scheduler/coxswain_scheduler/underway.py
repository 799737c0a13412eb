"""Prompts on their way to an engine, which will soon hold their prefixes: a burst of one prefix can follow its first.

Nothing is noted for most blocks of a prompt. Its blocks at a few depths, which grow geometrically, are its anchors, and
each anchor knows the latest prompt that has it. A later prompt is compared with the one at its deepest known anchor; as
hashes are chained, how much the two share is found by halving.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

_ANCHORS = (1024, 512, 256, 128, 64, 32, 16)
"""Depths in blocks. What shares less than the last gains little by following, and too many prompts share it."""

_Sent = tuple[int, Sequence[int]]


class Underway:
    """Prompts sent and not begun, by request."""

    def __init__(self) -> None:
        self._sent: dict[Hashable, _Sent] = {}
        self._anchored: dict[int, _Sent] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, request: Hashable, seat: int, hashes: Sequence[int], *, held: int = 0) -> None:
        """A prompt of these chained block hashes goes to `seat`, which holds so many of them already and therefore is
        found by the others alone. The hashes are kept, not copied."""
        if request in self._sent:
            self.settle(request)
        sent = self._sent[request] = (seat, hashes)
        for depth in _ANCHORS:
            if held < depth <= len(hashes):
                self._anchored[hashes[depth - 1]] = sent

    def settle(self, request: Hashable) -> None:
        """It has begun, ended or been withdrawn. An unknown request is ignored."""
        sent = self._sent.pop(request, None)
        if sent is None:
            return
        hashes = sent[1]
        for depth in _ANCHORS:
            if depth <= len(hashes) and self._anchored.get(hashes[depth - 1]) is sent:
                del self._anchored[hashes[depth - 1]]

    def drop(self, seat: int) -> None:
        """Forget all that went to `seat`."""
        for request in [request for request, sent in self._sent.items() if sent[0] == seat]:
            self.settle(request)

    def alike(self, hashes: Sequence[int]) -> tuple[()] | tuple[tuple[int, int]]:
        """(blocks shared, mask of the engine) of the latest prompt that shares the deepest anchor, if there is one."""
        length = len(hashes)
        for depth in _ANCHORS:
            if depth <= length:
                sent = self._anchored.get(hashes[depth - 1])
                if sent is not None:
                    return ((_shared(hashes, sent[1], depth), 1 << sent[0]),)
        return ()


def _shared(these: Sequence[int], others: Sequence[int], least: int) -> int:
    """Leading blocks that both have, at least `least`."""
    most = min(len(these), len(others))
    while least < most:
        middle = (least + most + 1) >> 1
        if these[middle - 1] == others[middle - 1]:
            least = middle
        else:
            most = middle - 1
    return least
