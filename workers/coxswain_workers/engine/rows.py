"""Row counts for which a matrix library gives a row the same bits, found by trying."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BUCKETS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Row counts that exact arithmetic pads to: few enough to try them all, close enough to waste little."""

PIVOT = 16


@dataclass(frozen=True, slots=True)
class Rows:
    """Which row counts linear layers run with. Without limits every count is as good as another."""

    low: int = 1
    high: int | None = None

    def padded(self, rows: int) -> int:
        """The count to pad `rows` rows to; above `high`, slices of `high` rows and one padded rest."""
        if self.high is None:
            return max(rows, self.low)
        whole, rest = divmod(rows, self.high)
        return whole * self.high + (max(self.low, BUCKETS[bisect_left(BUCKETS, rest)]) if rest else 0)

    def meet(self, other: Rows) -> Rows | None:
        """Counts safe for both; None when there are none."""
        low, high = max(self.low, other.low), min(self.high or BUCKETS[-1], other.high or BUCKETS[-1])
        return Rows(low, high) if low <= high else None


def safe_rows(layer: Callable[[Tensor], Tensor], samples: Tensor) -> Rows | None:
    """The widest range of buckets around `PIVOT` in which `layer` gives every row of `samples` the same bits.

    `samples` is [BUCKETS[-1], in]. Each row is tried at many places of the batch. None when not even the pivot is safe.
    """
    expected = torch.cat([layer(part) for part in torch.split(samples, PIVOT)])

    def same(rows: int) -> bool:
        shifted = layer(samples.roll(1, 0)[:rows])
        return torch.equal(layer(samples[:rows]), expected[:rows]) and torch.equal(shifted, expected.roll(1, 0)[:rows])

    if not same(PIVOT):
        return None
    middle = BUCKETS.index(PIVOT)
    low = high = middle
    while low > 0 and same(BUCKETS[low - 1]):
        low -= 1
    while high + 1 < len(BUCKETS) and same(BUCKETS[high + 1]):
        high += 1
    return Rows(BUCKETS[low], BUCKETS[high])
