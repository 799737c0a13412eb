"""Which keys are due, and when: the memory of the work queue, without any waiting in it.

A key is in here once, however often it is added; while somebody works on it, it is held back and comes due again
afterwards. Time is handed in, so that tests decide what time it is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_RETRY_SECONDS = 0.25
LAST_RETRY_SECONDS = 60.0


class Backlog(Generic[Key]):
    """A de-duplicating queue with delays and exponential back-off per key."""

    def __init__(self) -> None:
        self._due: deque[Key] = deque()
        self._since: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._later: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._tick = 0
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        """Keys that are due and not being worked on."""
        return len(self._due)

    def add(self, key: Key, *, now: float) -> None:
        """The key is due now; while it is being worked on, once more as soon as that is done."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._since:
            self._since[key] = now
            self._due.append(key)

    def add_at(self, key: Key, *, at: float) -> None:
        """The key is due at a time. The earliest of several such times counts."""
        if at < self._later.get(key, float("inf")):
            self._later[key] = at
            self._tick += 1
            heapq.heappush(self._heap, (at, self._tick, key))

    def pop(self, *, now: float) -> Key | None:
        """The key that waited longest, now being worked on, or None when nothing is due."""
        self._ripen(now)
        if not self._due:
            return None
        key = self._due.popleft()
        del self._since[key]
        self._working.add(key)
        return key

    def done(self, key: Key, *, now: float) -> None:
        """The work on a popped key has ended."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key, now=now)

    def failed(self, key: Key, *, now: float) -> float:
        """The work failed: due again after a pause that doubles each time. Returns its seconds."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(count - 1, 16), LAST_RETRY_SECONDS)
        self.add_at(key, at=now + pause)
        return pause

    def succeeded(self, key: Key) -> None:
        """The next failure of this key starts again with the shortest pause."""
        self._failures.pop(key, None)

    def next_at(self) -> float | None:
        """When the next delayed key comes due; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def oldest(self, *, now: float) -> float:
        """Seconds that the first due key has waited; 0 when nothing is due."""
        return now - self._since[self._due[0]] if self._due else 0.0

    def _ripen(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._later.get(key) == at:
                del self._later[key]
                self.add(key, now=now)
