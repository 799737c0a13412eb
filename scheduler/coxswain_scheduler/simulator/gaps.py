"""The time between two tokens of a stream, over all streams: a histogram, since there are millions."""

from __future__ import annotations

import math
from typing import Final

_RATIO: Final = 1.01
_LOG_RATIO: Final = math.log(_RATIO)


class Gaps:
    """Weighted counts in buckets that grow by one percent."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, seconds: float, count: int) -> None:
        """`count` gaps of so many seconds."""
        if count > 0:
            bucket = math.ceil(math.log(seconds) / _LOG_RATIO) if seconds > 0 else -(1 << 30)
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    def quantile(self, q: float) -> float | None:
        """Seconds that a share `q` of the gaps does not exceed, to within one percent; None without gaps."""
        rank = q * sum(self._counts.values())
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return float(_RATIO**bucket)
        return None
