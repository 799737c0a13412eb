"""Who of a thousand seats can take a prompt first, without a look at each.

Of seats of one kind that are ready the best is the one where a prompt disturbs least, and of those that are not yet,
the one that is ready first. So each kind has two sorted lists, and a seat passes from the second into the first when
its time comes. What holds the prompt is found by its prefix; these are the seats to compare that with.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable
from typing import Generic, TypeVar

Seat = TypeVar("Seat")

_READY = 3
"""Ready seats of a kind that are compared; of the others, one."""
_NEXT = 12
"""Ready seats among which one is looked for that holds what most hold."""
_Entry = tuple[float, int, float, Seat]
"""Order, name, toll, seat. Names differ, so nothing behind them is compared."""


class _Kind(Generic[Seat]):
    __slots__ = ("later", "ready")

    def __init__(self) -> None:
        self.ready: list[_Entry[Seat]] = []
        """By toll."""
        self.later: list[_Entry[Seat]] = []
        """By when they are ready."""


class Openings(Generic[Seat]):
    """Seats by name, with when they are ready (seconds) and their toll: what a prompt costs beside its prefill."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind[Seat]] = {}
        self._entries: dict[int, tuple[_Kind[Seat], _Entry[Seat], bool]] = {}
        self._waits = 0.0
        self._waiting = 0

    def __contains__(self, name: int) -> bool:
        return name in self._entries

    def put(self, name: int, seat: Seat, *, kind: Hashable, ready_at: float, toll: float, now: float) -> None:
        """A seat, or what is new of it. Seats of one kind take equally long for a prompt."""
        self.take(name)
        lists = self._kinds.get(kind)
        if lists is None:
            lists = self._kinds[kind] = _Kind()
        self._pass(lists, now)
        if ready_at <= now:
            self._ready(lists, (toll, name, toll, seat))
            return
        entry = (ready_at, name, toll, seat)
        insort(lists.later, entry)
        self._entries[name] = (lists, entry, False)
        self._waits += ready_at
        self._waiting += 1

    def take(self, name: int) -> None:
        """It is not open any more; nothing where it was not."""
        known = self._entries.pop(name, None)
        if known is None:
            return
        kind, entry, ready = known
        if not ready:
            del kind.later[bisect_left(kind.later, entry)]
            self._waits -= entry[0]
            self._waiting -= 1
        elif kind.ready[0] is entry:  # as it is where a prompt was given to the first
            del kind.ready[0]
        else:
            del kind.ready[bisect_left(kind.ready, entry)]

    def first(self, now: float) -> list[Seat]:
        """Of each kind, the best of the ready seats and the first of the others."""
        found: list[Seat] = []
        for kind in self._kinds.values():
            self._pass(kind, now)
            for entry in kind.ready[:_READY]:
                found.append(entry[3])
            if kind.later:
                found.append(kind.later[0][3])
        return found

    def next(self) -> list[Seat]:
        """Of each kind, the best ready seats that follow the `first`."""
        return [entry[3] for kind in self._kinds.values() for entry in kind.ready[_READY:_NEXT]]

    def waits(self, now: float) -> float:
        """Seconds until seats are ready, added up."""
        return max(0.0, self._waits - self._waiting * now)

    def _pass(self, kind: _Kind[Seat], now: float) -> None:
        """Let those be ready whose time has come."""
        later = kind.later
        while later and later[0][0] <= now:
            ready_at, name, toll, seat = later.pop(0)
            self._waits -= ready_at
            self._waiting -= 1
            self._ready(kind, (toll, name, toll, seat))

    def _ready(self, kind: _Kind[Seat], entry: _Entry[Seat]) -> None:
        insort(kind.ready, entry)
        self._entries[entry[1]] = (kind, entry, True)
