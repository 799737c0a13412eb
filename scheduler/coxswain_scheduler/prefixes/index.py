"""Which engine holds the KV of which prompt prefix, as far as anybody was told.

Block hashes are chained (each covers everything before it), so equal hashes mean equal prefixes; and an engine that
holds a block practically holds all before it, since it gives up the end of a prefix first. So the deeper a block, the
fewer hold it, and the depths at which holders fall away are found by halving, not by asking for every block. Of an
engine that gave up a middle block too much may be believed, which costs a prediction and nothing else.

Blocks that are stored in a run, or by one engine alone, share one set of holders. The garbage collector looks into
neither blocks nor sets, however many there are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from librt.vecs import append, vec
from mypy_extensions import i64

from coxswain_scheduler.prefixes.holders import Level
from coxswain_scheduler.prefixes.seats import NOBODY
from coxswain_scheduler.prefixes.sets import Sets
from coxswain_scheduler.prefixes.table import BlockTable

_NAME: Final = (1 << 63) - 1
"""The part of a hash that is a name."""
_FIRST: Final[i64] = 1
_NONE: Final[i64] = -1
_SLACK: Final = 1024
"""Blocks given up that an engine's list may name before it is written anew."""


class _Held:
    """What one engine was said to store, to be able to forget all of it: eight bytes a block."""

    __slots__ = ("alone", "blocks", "live")

    def __init__(self, alone: i64) -> None:
        self.alone = alone
        """The number of the set of this engine alone."""
        self.blocks = array("Q")
        self.live = 0


class PrefixIndex:
    """Holders of KV blocks by 64-bit hash (not negative). Engines are small integers: their seats."""

    def __init__(self) -> None:
        self._table = BlockTable()
        self._sets = Sets()
        self._held: dict[int, _Held] = {}
        self._usual: i64 = 1
        """The depth up to which all holders held what was asked for last: a system prompt's, and likely the next's."""

    def __len__(self) -> int:
        """Different blocks known."""
        return len(self._table)

    @property
    def entries(self) -> int:
        """Blocks known, once for each engine that holds them."""
        return sum(held.live for held in self._held.values())

    @property
    def size(self) -> int:
        """Bytes, about."""
        lists = sum(held.blocks.itemsize * len(held.blocks) for held in self._held.values())
        return self._table.size + self._sets.size + lists

    def stored(self, seat: int, hashes: Sequence[int]) -> None:
        """`seat` can now reuse these blocks. Cheapest in chain order, where neighbours have the same holders."""
        held = self._held.get(seat)
        if held is None:
            held = self._held[seat] = _Held(self._sets.add(NOBODY.toggled(seat)))
            self._sets.count(held.alone, 1)
        sets, before, after, live = self._sets, _NONE, held.alone, held.live
        for block in hashes:
            name: i64 = block & _NAME
            number = self._table.get(name)
            if number != before:
                before, after = number, held.alone
                if number:
                    holders = sets.sets[number]
                    after = number if holders.has(seat) else sets.add(holders.toggled(seat))
            if after != before:
                self._table.put(name, after)
                sets.count(after, 1)
                sets.count(before, -1)
                live += 1
        held.live = live
        held.blocks.extend(hashes)
        self._tidy(seat, held)

    def removed(self, seat: int, hashes: Iterable[int]) -> None:
        """`seat` has given these blocks up; those it never had are ignored."""
        held = self._held.get(seat)
        if held is not None:
            self._forget(seat, held, hashes)
            self._tidy(seat, held)

    def replace(self, seat: int, hashes: Sequence[int]) -> None:
        """`seat` holds exactly these blocks."""
        self.drop(seat)
        self.stored(seat, hashes)

    def drop(self, seat: int) -> None:
        """Nothing is known of `seat` any more."""
        held = self._held.pop(seat, None)
        if held is not None:
            self._forget(seat, held, held.blocks)
            self._sets.count(held.alone, -1)

    def levels(self, names: vec[i64], *, tokens: int, block_size: int) -> list[Level]:
        """Who holds how much of a prompt of so many tokens, of which the last is always computed: most comes first, and
        no engine twice. `names`: of its blocks, see below."""
        widest = self._table.get(names[0]) if len(names) else 0
        if not widest:
            return []
        most: i64 = (tokens - 1) // block_size
        depth, number = self._deepest(names, len(names), widest, 0)
        levels = [Level(min(depth, most) * block_size, self._sets.sets[number])]
        while not self._same(number, widest):
            depth, number = self._deepest(names, depth - 1, widest, number)
            others = self._sets.sets[number]
            for level in levels:
                others = others.minus(level.seats)
            if not others.empty():
                levels.append(Level(min(depth, most) * block_size, others))
        self._usual = depth
        return levels

    def _deepest(self, names: vec[i64], end: i64, widest: i64, unlike: i64) -> tuple[i64, i64]:
        """The greatest depth up to `end` that others than `unlike` hold, and who; `widest` hold the first block."""
        depth, others, middle, usual = _FIRST, widest, self._usual, self._usual
        while depth < end:
            if not depth < middle <= end:
                middle = (depth + end + 1) >> 1
            found = self._table.get(names[middle - 1])
            if self._same(found, unlike):
                end = middle - 1
            else:
                depth, others = middle, found
                middle = depth + 1 if depth == usual else 0
        return depth, others

    def _same(self, one: i64, other: i64) -> bool:
        """Whether two numbers are of the same holders."""
        if one == other or not one or not other:
            return one == other
        return self._sets.sets[one].same(self._sets.sets[other])

    def _forget(self, seat: int, held: _Held, hashes: Iterable[int]) -> None:
        sets, before, after, live = self._sets, _NONE, _NONE, held.live
        for block in hashes:
            name: i64 = block & _NAME
            number = self._table.get(name)
            if number != before:
                before = after = number
                holders = sets.sets[number]
                if holders.has(seat):
                    others = holders.toggled(seat)
                    after = 0 if others.empty() else sets.add(others)
            if after != before:
                if after:
                    self._table.put(name, after)
                else:
                    self._table.remove(name)
                sets.count(after, 1)
                sets.count(before, -1)
                live -= 1
        held.live = live

    def _tidy(self, seat: int, held: _Held) -> None:
        """Write the list of what an engine holds anew when more than half of it is no longer true."""
        if len(held.blocks) > 2 * held.live + _SLACK:
            table, sets = self._table, self._sets.sets
            known = dict.fromkeys(held.blocks)
            held.blocks = array("Q", [block for block in known if sets[table.get(block & _NAME)].has(seat)])


def names(hashes: Iterable[int]) -> vec[i64]:
    """Of a prompt's blocks, by their hashes: plain numbers, which the garbage collector does not look into."""
    found = vec[i64]()
    for block in hashes:
        found = append(found, block & _NAME)
    return found
