"""The work queue: a backlog that can be waited on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from coxswain_operator.reconciling.backlog import Backlog

Key = TypeVar("Key", bound=Hashable)


class WorkQueue(Generic[Key]):
    """Hands each key to one worker at a time. Use from one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.backlog: Backlog[Key] = Backlog()
        self._clock = clock
        self._changed = asyncio.Event()

    def add(self, key: Key) -> None:
        """Due now."""
        self.backlog.add(key, now=self._clock())
        self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Due in so many seconds, at the latest."""
        self.backlog.add_at(key, at=self._clock() + seconds)
        self._changed.set()

    async def get(self) -> Key:
        """Wait for a key that is due. Call `done` or `failed` with it afterwards."""
        while True:
            key = self.backlog.pop(now=self._clock())
            if key is not None:
                return key
            self._changed.clear()
            await self._wait(self.backlog.next_at())

    def done(self, key: Key, *, again_after: float | None = None) -> None:
        """The work on a key went well; `again_after` has it looked at again in so many seconds."""
        self.backlog.succeeded(key)
        self.backlog.done(key, now=self._clock())
        if again_after is not None:
            self.add_after(key, again_after)
        self._changed.set()

    def failed(self, key: Key) -> float:
        """The work on a key failed; it comes again after a growing pause, whose seconds are returned."""
        pause = self.backlog.failed(key, now=self._clock())
        self.backlog.done(key, now=self._clock())
        self._changed.set()
        return pause

    def oldest(self) -> float:
        """Seconds that the first due key has waited."""
        return self.backlog.oldest(now=self._clock())

    async def _wait(self, until: float | None) -> None:
        timeout = None if until is None else max(0.0, until - self._clock())
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
