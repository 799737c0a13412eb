"""Latency histograms: fixed relative precision from a millisecond to hours, cheap to record, exact to merge.

Buckets grow geometrically (HDR histograms and Prometheus native histograms do the same), so a quantile is right to
within half a bucket's width, 5 % here, whatever the scale; and adding two histograms loses nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from coxswain_protocol.status import Histogram

FLOOR = 0.001
RATIO = 1.1
_LOG_RATIO = math.log(RATIO)


class LatencyHistogram:
    """Counts of latencies, in seconds, with their sum."""

    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.sum = 0.0

    def record(self, seconds: float) -> None:
        """Count one latency; what is below the floor falls into bucket -1."""
        bucket = math.floor(math.log(seconds / FLOOR) / _LOG_RATIO) if seconds > FLOOR else -1
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.sum += seconds

    @property
    def count(self) -> int:
        """How many latencies were recorded."""
        return sum(self._counts.values())

    def status(self) -> Histogram:
        """The form in which it travels on status pages."""
        return Histogram(floor=FLOOR, ratio=RATIO, counts=dict(self._counts))


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The histogram of all their samples. Raises ValueError when their buckets differ."""
    total: Counter[int] = Counter()
    shape = None
    for histogram in histograms:
        if shape not in (None, (histogram.floor, histogram.ratio)):
            raise ValueError("histograms with different buckets cannot be merged")
        shape = (histogram.floor, histogram.ratio)
        total.update(histogram.counts)
    floor, ratio = shape or (FLOOR, RATIO)
    return Histogram(floor=floor, ratio=ratio, counts=dict(total))


def quantile(histogram: Histogram, q: float) -> float | None:
    """Seconds below which a share `q` of the samples lies, to within half a bucket; None without samples."""
    rank = q * sum(histogram.counts.values())
    seen = 0
    for bucket in sorted(histogram.counts):
        seen += histogram.counts[bucket]
        if seen >= rank and histogram.counts[bucket]:
            return float(histogram.floor * histogram.ratio ** (bucket + 0.5))
    return None


def cumulative(histogram: Histogram, bounds: Iterable[float]) -> list[int]:
    """Samples at or below each bound (ascending seconds), as Prometheus' `le` buckets want them."""
    edges = [(histogram.floor * histogram.ratio ** (bucket + 0.5), n) for bucket, n in histogram.counts.items()]
    return [sum(n for middle, n in edges if middle <= bound) for bound in bounds]
