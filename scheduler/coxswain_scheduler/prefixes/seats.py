"""Sets of seats: small integers that stand for engines. A set is never changed, so that many blocks may share one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from librt.vecs import append, vec
from mypy_extensions import i64, mypyc_attr

WORD: Final = 32
"""Seats in a word, which has 64 bits: so it is never negative, compiled or not."""
_BITS: Final = 5
_LAST: Final = WORD - 1
_BEYOND: Final[i64] = 1 << WORD
"""The first bit that is not in use. Others are made of it: compiled, 1 << 31 would be a negative number of 32 bits."""


@mypyc_attr(acyclic=True)
class SeatSet:
    """Some seats."""

    __slots__ = ("words",)

    def __init__(self, words: vec[i64]) -> None:
        """`words`: a bit for each seat, the lowest first; who is beyond them is not in the set."""
        self.words = words

    def has(self, seat: i64) -> bool:
        """Whether it is in the set."""
        place = seat >> _BITS
        return place < len(self.words) and self.words[place] >> (seat & _LAST) & 1 != 0

    def toggled(self, seat: i64) -> SeatSet:
        """The set with a seat that was not in it, or without one that was."""
        words = vec[i64](capacity=len(self.words) + 1)
        for word in self.words:
            words = append(words, word)
        place = seat >> _BITS
        while len(words) <= place:
            words = append(words, 0)
        words[place] ^= _BEYOND >> WORD - (seat & _LAST)
        return SeatSet(words)

    def minus(self, other: SeatSet) -> SeatSet:
        """Those in this one alone."""
        mine, others = self.words, other.words
        length, words = len(others), vec[i64](capacity=len(mine))
        for place in range(len(mine)):
            words = append(words, mine[place] & ~others[place] if place < length else mine[place])
        return SeatSet(words)

    def same(self, other: SeatSet) -> bool:
        """Whether both are the same seats."""
        if len(self.words) > len(other.words):
            return other.same(self)
        mine, others = self.words, other.words
        length = len(mine)
        return all(others[place] == (mine[place] if place < length else 0) for place in range(len(others)))

    def empty(self) -> bool:
        """Whether nobody is in it."""
        return all(not word for word in self.words)

    def all(self) -> list[int]:
        """Its seats, lowest first."""
        found: list[int] = []
        words = self.words
        for place in range(len(words)):
            word = words[place]
            while word:
                found.append((place << _BITS) + lowest(word))
                word &= word - 1
        return found


NOBODY: Final = SeatSet(vec[i64]())


def seat_set(seats: Iterable[int]) -> SeatSet:
    """These seats."""
    found = NOBODY
    for seat in seats:
        if not found.has(seat):
            found = found.toggled(seat)
    return found


def lowest(word: i64) -> i64:
    """The number of the lowest bit of a word that has any."""
    low = word & -word
    bit: i64 = 16 if low & 0xFFFF0000 else 0
    if low & 0xFF00FF00:
        bit += 8
    if low & 0xF0F0F0F0:
        bit += 4
    if low & 0xCCCCCCCC:
        bit += 2
    return bit + 1 if low & 0xAAAAAAAA else bit
