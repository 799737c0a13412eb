"""Generations that no replica can take at the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coxswain_gateway.generation import Generation

REMIND_SECONDS = 5.0
"""Between two signs of life to the client of a held stream."""


class Held:
    """Each waits for at most `seconds`, with its client told at once and from time to time that it does."""

    def __init__(self, *, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._generations: dict[str, Generation] = {}
        self._reminded = clock()

    def __len__(self) -> int:
        return len(self._generations)

    def __iter__(self) -> Iterator[Generation]:
        return iter(list(self._generations.values()))

    def add(self, generation: Generation) -> None:
        """It must wait; one that does already goes on waiting."""
        if generation.held_until is None:
            generation.held_until = self._clock() + self._seconds
            self._generations[generation.log.id] = generation
            generation.listener.advanced()

    def release(self, generation: Generation) -> None:
        """It can go on; nothing changes for one that was not held."""
        self.forget(generation)
        generation.held_until = None

    def forget(self, generation: Generation) -> None:
        """It is over, or was not held."""
        self._generations.pop(generation.log.id, None)

    def overdue(self, now: float) -> list[Generation]:
        """Those that have waited for too long at monotonic time `now`."""
        return [each for each in self if each.held_until is not None and now >= each.held_until]

    def remind(self, now: float) -> None:
        """Give their clients a sign of life, when it is time for one."""
        if self._generations and now - self._reminded >= REMIND_SECONDS:
            self._reminded = now
            for generation in self:
                generation.listener.advanced()
