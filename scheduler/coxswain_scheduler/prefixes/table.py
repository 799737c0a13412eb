"""A table from 64-bit names of blocks to small numbers, sixteen bytes a place: a look at it is one at memory.

Open addressing with linear probing; what is taken out closes the gap behind it, so that nothing marks where it was
(Knuth, The Art of Computer Programming 3, 6.4, algorithm R). A dictionary of as many integers takes four looks at
memory for one name, and each of a million of them is a miss.
"""

from __future__ import annotations

from typing import Final

from librt.vecs import append, vec
from mypy_extensions import i64

_LEAST: Final = 64
"""Places, a power of two as ever."""


class BlockTable:
    """Numbers above zero by name. Names are well mixed, or come in rows."""

    def __init__(self) -> None:
        self._places = _empty(_LEAST)
        """Name and number of each in turn; the number is zero where there is none."""
        self._mask: i64 = _LEAST - 1
        self._count: i64 = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Bytes."""
        return 8 * len(self._places)

    def get(self, name: i64) -> i64:
        """The number of a name, zero where it has none."""
        return self._places[2 * self._find(name) + 1]

    def put(self, name: i64, number: i64) -> None:
        """A name has a number (above zero) from now on."""
        place = self._find(name)
        if not self._places[2 * place + 1]:
            self._count += 1
            self._places[2 * place] = name
        self._places[2 * place + 1] = number
        if 3 * self._count > 2 * self._mask:
            self._grow()

    def remove(self, name: i64) -> None:
        """A name that has a number has none any more."""
        places, mask = self._places, self._mask
        gap = self._find(name)
        place = gap
        self._count -= 1
        while True:
            place = place + 1 & mask
            if not places[2 * place + 1]:
                break
            start = places[2 * place] & mask
            if place - start & mask >= place - gap & mask:
                places[2 * gap], places[2 * gap + 1] = places[2 * place], places[2 * place + 1]
                gap = place
        places[2 * gap + 1] = 0

    def _find(self, name: i64) -> i64:
        """Where a name is, or would be."""
        places, mask = self._places, self._mask
        place = name & mask
        while places[2 * place + 1] and places[2 * place] != name:
            place = place + 1 & mask
        return place

    def _grow(self) -> None:
        """Twice as many places."""
        before, place = self._places, i64(0)
        self._mask = 2 * self._mask + 1
        self._places = _empty(self._mask + 1)
        while place < len(before):
            if before[place + 1]:
                found = self._find(before[place])
                self._places[2 * found], self._places[2 * found + 1] = before[place], before[place + 1]
            place += 2


def _empty(count: i64) -> vec[i64]:
    """So many places."""
    places = vec[i64](capacity=2 * count)
    while len(places) < 2 * count:
        places = append(places, 0)
    return places
