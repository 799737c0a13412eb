"""Who of a thousand seats can take a prompt first, without a look at each.

Of seats of one kind that are ready the best is the one where a prompt disturbs least, and of those that are not yet,
the one that is ready first. So each kind has two sorted lists, and a seat passes from the second into the first when
its time comes. What holds the prompt is found by its prefix; these are the seats to compare that with.

A seat that is taken out stays in its list, marked, until somebody comes by or half of the list is marked: to find it
there would cost a dispatch more than all else that is done here.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Seat = TypeVar("Seat")

_READY: Final = 3
"""Ready seats of a kind that are compared; of the others, one."""
_NEXT: Final = 12
"""Ready seats among which one is looked for that holds what most hold."""
_SLACK: Final = 16
"""Marked seats that are left in any list."""


class Opening(Generic[Seat]):
    """A seat in one of the lists."""

    __slots__ = ("name", "order", "place", "seat", "there", "toll")

    def __init__(self, place: _Sorted[Seat], order: float, name: int, toll: float, seat: Seat) -> None:
        self.place = place
        """The list that it is in."""
        self.there = True
        """Whether it counts; else it was taken out."""
        self.order = order
        """What the list is sorted by."""
        self.name = name
        self.toll = toll
        self.seat = seat

    def __lt__(self, other: Opening[Seat]) -> bool:
        """The list ends with the first: there it costs nothing to take one out."""
        if self.order != other.order:
            return self.order > other.order
        return self.name > other.name


class _Sorted(Generic[Seat]):
    """Entries, the last one first; some do not count any more."""

    __slots__ = ("entries", "gone", "timed")

    def __init__(self, *, timed: bool) -> None:
        self.timed = timed
        """Whether they are sorted by when they are ready."""
        self.entries: list[Opening[Seat]] = []
        self.gone = 0

    def add(self, entry: Opening[Seat]) -> None:
        """Where it belongs."""
        entries = self.entries
        low, high = 0, len(entries)
        while low < high:
            middle = (low + high) >> 1
            if entry < entries[middle]:
                high = middle
            else:
                low = middle + 1
        entries.insert(low, entry)
        entry.place = self

    def head(self) -> Opening[Seat] | None:
        """The first that counts."""
        entries = self.entries
        while entries:
            entry = entries[-1]
            if entry.there:
                return entry
            entries.pop()
            self.gone -= 1
        return None

    def discard(self, entry: Opening[Seat]) -> None:
        """It does not count any more."""
        entry.there = False
        self.gone += 1
        if 2 * self.gone > len(self.entries) + _SLACK:
            self.entries = [each for each in self.entries if each.there]
            self.gone = 0

    def first(self, start: int, end: int) -> list[Opening[Seat]]:
        """Of those that count, in order, from one place up to another."""
        entries, found, place = self.entries, [], len(self.entries)
        while end > 0 and place > 0:
            place -= 1
            entry = entries[place]
            if not entry.there:
                entries.pop(place)
                self.gone -= 1
                continue
            end -= 1
            if start > 0:
                start -= 1
            else:
                found.append(entry)
        return found


class _Kind(Generic[Seat]):
    __slots__ = ("later", "ready")

    def __init__(self) -> None:
        self.ready: _Sorted[Seat] = _Sorted(timed=False)
        """By toll."""
        self.later: _Sorted[Seat] = _Sorted(timed=True)
        """By when they are ready."""


class Openings(Generic[Seat]):
    """Seats with when they are ready (seconds) and their toll: what a prompt costs beside its prefill."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind[Seat]] = {}
        self._waits = 0.0
        self._waiting = 0

    def put(self, name: int, seat: Seat, *, kind: Hashable, ready_at: float, toll: float, now: float) -> Opening[Seat]:
        """A seat that is in no list. Seats of one kind take equally long for a prompt; `name` decides where all else is
        equal."""
        lists = self._kinds.get(kind)
        if lists is None:
            lists = self._kinds[kind] = _Kind()
        self._pass(lists, now)
        if ready_at <= now:
            opening = Opening(lists.ready, toll, name, toll, seat)
        else:
            opening = Opening(lists.later, ready_at, name, toll, seat)
            self._waits += ready_at
            self._waiting += 1
        opening.place.add(opening)
        return opening

    def take(self, opening: Opening[Seat]) -> None:
        """A seat, as `put` returned it, is in no list any more."""
        if opening.place.timed:
            self._waits -= opening.order
            self._waiting -= 1
        opening.place.discard(opening)

    def first(self, now: float) -> list[Seat]:
        """Of each kind, the best of the ready seats and the first of the others."""
        found: list[Seat] = []
        for kind in self._kinds.values():
            self._pass(kind, now)
            for entry in kind.ready.first(0, _READY):
                found.append(entry.seat)
            soon = kind.later.head()
            if soon is not None:
                found.append(soon.seat)
        return found

    def next(self) -> list[Seat]:
        """Of each kind, the best ready seats that follow the `first`."""
        return [entry.seat for kind in self._kinds.values() for entry in kind.ready.first(_READY, _NEXT)]

    def waits(self, now: float) -> float:
        """Seconds until seats are ready, added up."""
        return max(0.0, self._waits - self._waiting * now)

    def _pass(self, kind: _Kind[Seat], now: float) -> None:
        """Let those be ready whose time has come."""
        later, ready = kind.later, kind.ready
        while (entry := later.head()) is not None and entry.order <= now:
            later.entries.pop()
            self._waits -= entry.order
            self._waiting -= 1
            entry.order = entry.toll
            ready.add(entry)
