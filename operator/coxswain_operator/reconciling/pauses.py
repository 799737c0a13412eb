"""Growing pauses between attempts at something that keeps failing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_SECONDS = 1.0
LAST_SECONDS = 300.0


class Pauses(Generic[Key]):
    """For each key, when it may be tried again. Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self._failed: dict[Key, tuple[int, float]] = {}

    def failed(self, key: Key, *, now: float) -> None:
        """One more failure: the pause is twice the last one."""
        count = self._failed.get(key, (0, 0.0))[0] + 1
        self._failed[key] = (count, now + min(FIRST_SECONDS * 2.0 ** min(count - 1, 16), LAST_SECONDS))

    def worked(self, key: Key) -> None:
        """The next failure starts with the shortest pause."""
        self._failed.pop(key, None)

    def held(self, *, now: float) -> dict[Key, float]:
        """Keys whose pause is not over, and for how many seconds."""
        return {key: until - now for key, (_, until) in self._failed.items() if until > now}
