"""How long engines' free KV blocks last, and so which of them should give a request away and which may take one.

A sequence takes a token a step, so an engine is full after `free · block size / running` steps: Llumnix's freeness
(OSDI'24), here times its step, so that unequal GPUs compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

LEAVING: Final = 0
PRIORITY: Final = 1
DEFRAGMENT: Final = 2
BALANCE: Final = 3
"""Why an engine gives requests away, the more pressing first."""


class Worker:
    """One engine as it last reported; counts as floats, for what they are multiplied by is."""

    def __init__(
        self,
        *,
        free_blocks: float,
        total_blocks: float,
        running: float,
        waiting: float,
        wanted_blocks: float,
        wanted_priority: float,
        step_seconds: float,
        token_seconds: float,
        leaving: bool = False,
        busy: bool = False,
    ) -> None:
        """`wanted_blocks`: what the first in its queue needs, 0 when nobody waits; `wanted_priority`: that one's.
        `token_seconds`: to compute a prompt token. `busy`: it takes part in a migration already."""
        self.free_blocks = free_blocks
        self.total_blocks = total_blocks
        self.running = running
        self.waiting = waiting
        self.wanted_blocks = wanted_blocks
        self.wanted_priority = wanted_priority
        self.step_seconds = step_seconds
        self.token_seconds = token_seconds
        self.leaving = leaving
        self.busy = busy

    def kind(self) -> int:
        """Why it would give a request away."""
        if self.leaving:
            return LEAVING
        if self.wanted_blocks <= self.free_blocks:
            return BALANCE
        return PRIORITY if self.wanted_priority > 0.0 else DEFRAGMENT


class Sides:
    """Who gives and who may take.

    Compiled, one pass over plain objects takes less than half the time of as many columns in numpy, whose code
    and temporaries are cold in the processor's caches by the time of the next round.
    """

    def __init__(self, rows: list[Worker], block_size: int, horizon: float) -> None:
        """`horizon`: seconds; who lasts less gives, who lasts longer may take."""
        self.lasts: list[float] = []
        """Seconds until an engine's free blocks are used up; below zero when its next prompt does not fit."""
        self._roomy: list[int] = []
        self._pressed: tuple[list[int], ...] = ([], [], [], [])
        """By kind."""
        size, lasts, roomy = float(block_size), self.lasts, self._roomy
        for number, row in enumerate(rows):
            last = (row.free_blocks - row.wanted_blocks) * row.step_seconds * size / max(row.running, 1.0)
            lasts.append(last)
            if row.busy:
                continue
            if last > horizon and not row.leaving:
                roomy.append(number)
            elif row.running > 0.0 and (last < horizon or row.leaving):
                self._pressed[row.kind()].append(number)

    def takers(self, most: int) -> list[int]:
        """So many with room, the one that lasts longest first; of equal ones, the lower number."""
        lasts, numbers = self.lasts, self._roomy
        while len(numbers) > 2 * most:  # about half are not worth sorting
            total = 0.0
            for number in numbers:
                total += lasts[number]
            mean = total / len(numbers)
            above = [number for number in numbers if lasts[number] > mean]
            if not most <= len(above) < len(numbers):
                break
            numbers = above
        return sorted(numbers, key=lasts.__getitem__, reverse=True)[:most]

    def givers(self) -> Iterator[tuple[int, int]]:
        """Kind and number: who leaves, who keeps the urgent waiting, who keeps others waiting, the rest; the fullest
        first."""
        for kind, numbers in enumerate(self._pressed):
            for number in sorted(numbers, key=self.lasts.__getitem__):
                yield kind, number
