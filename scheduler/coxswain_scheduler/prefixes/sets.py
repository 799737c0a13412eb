"""Sets of seats that many blocks share, by number."""

from __future__ import annotations

from librt.vecs import append, pop, vec
from mypy_extensions import i64

from coxswain_scheduler.prefixes.seats import NOBODY, SeatSet


class Sets:
    """A set keeps its number while blocks have it. Number 0 is nobody."""

    def __init__(self) -> None:
        self.sets: list[SeatSet] = [NOBODY]
        """By number."""
        self._blocks: vec[i64] = vec[i64]([0])
        """How many blocks have each."""
        self._unused: vec[i64] = vec[i64]()

    @property
    def size(self) -> int:
        """Bytes, about."""
        return 8 * sum(len(each.words) + len(each.words) + 10 for each in self.sets)

    def add(self, holders: SeatSet) -> i64:
        """The number of a set that no block has yet."""
        if len(self._unused):
            self._unused, number = pop(self._unused)
            self.sets[number] = holders
            return number
        self.sets.append(holders)
        self._blocks = append(self._blocks, 0)
        return len(self._blocks) - 1

    def count(self, number: i64, blocks: i64) -> None:
        """So many blocks more have a set; its number is another's when none has it."""
        if not number:
            return
        self._blocks[number] += blocks
        if not self._blocks[number]:
            self.sets[number] = NOBODY
            self._unused = append(self._unused, number)
