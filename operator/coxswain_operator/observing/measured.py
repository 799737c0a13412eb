"""Latency percentiles over the last minutes, from histograms that only ever grow."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coxswain_protocol.status import Histogram

WINDOW_SECONDS = 300.0
STEP_SECONDS = 30.0
MIN_COUNT = 20
"""Fewer requests than this tell nothing about a 95th percentile."""

Counts = dict[int, int]


@dataclass(frozen=True)
class Latencies:
    """Counts by bucket over a window, of one quantity; bucket i ends at floor·ratio^(i+1) seconds."""

    floor: float
    ratio: float
    counts: Mapping[int, int]

    def total(self) -> int:
        """How many were measured."""
        return sum(self.counts.values())

    def percentile(self, percent: float) -> float | None:
        """Upper bound in seconds of the bucket that holds the percentile (nearest rank); None when nothing was."""
        rank = math.ceil(self.total() * percent / 100)
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank > 0:
                return self._end(bucket)
        return None

    def share_within(self, seconds: float) -> float | None:
        """Which part, 0 to 1, was certainly not slower; None when nothing was measured."""
        total = self.total()
        if total == 0:
            return None
        within = sum(count for bucket, count in self.counts.items() if self._end(bucket) <= seconds * (1 + 1e-9))
        return within / total

    def _end(self, bucket: int) -> float:
        return self.floor * self.ratio ** (bucket + 1)


@dataclass
class Window:
    """One quantity of one service: hand in what gateways report, get what the last minutes added."""

    floor: float = Histogram().floor
    ratio: float = Histogram().ratio
    _last: dict[str, Counts] = field(default_factory=dict)
    _steps: deque[tuple[float, Counts]] = field(default_factory=deque)

    def add(self, reports: Iterable[tuple[str, Histogram]], *, now: float) -> None:
        """The histogram of each gateway that answered, by its name."""
        for gateway, histogram in reports:
            self.floor, self.ratio = histogram.floor, histogram.ratio
            for bucket, count in _grown(self._last.get(gateway), histogram.counts).items():
                self._step(now)[bucket] = self._step(now).get(bucket, 0) + count
            self._last[gateway] = histogram.counts
        while self._steps and self._steps[0][0] < now - WINDOW_SECONDS:
            self._steps.popleft()

    def latencies(self) -> Latencies:
        """Everything within the window."""
        counts: Counts = {}
        for _, step in self._steps:
            for bucket, count in step.items():
                counts[bucket] = counts.get(bucket, 0) + count
        return Latencies(self.floor, self.ratio, counts)

    def _step(self, now: float) -> Counts:
        if not self._steps or self._steps[-1][0] < now - STEP_SECONDS:
            self._steps.append((now, {}))
        return self._steps[-1][1]


def _grown(before: Counts | None, after: Counts) -> Counts:
    """What came on top. A gateway seen first starts at nothing, and so does one whose counts shrank: it restarted."""
    if before is None:
        return {}
    if any(after.get(bucket, 0) < count for bucket, count in before.items()):
        return after
    return {bucket: count - before.get(bucket, 0) for bucket, count in after.items() if count > before.get(bucket, 0)}
