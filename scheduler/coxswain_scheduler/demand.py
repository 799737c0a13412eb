"""How much of a fleet the traffic of the moment takes, and for what: prefilling, or holding the KV of decodes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from coxswain_scheduler.interface import Engine

_MEMORY_SECONDS: Final = 20.0
"""A prefill counts for about so long."""


class Demand:
    """In engines: 1.0 is one engine that does nothing else."""

    def __init__(self, *, full: float) -> None:
        """`full`: the share of an engine's KV that decodes may fill."""
        self._full = full
        self._seconds = self._count = 0.0
        self._at = 0.0

    def prefill(self, seconds: float, now: float) -> None:
        """A prefill of so many seconds begins."""
        self._fade(now)
        self._seconds += seconds
        self._count += 1.0

    @property
    def prefill_seconds(self) -> float:
        """Of one prefill, in the mean of late."""
        return self._seconds / self._count if self._count else 0.0

    def of_prefill(self, now: float) -> float:
        """Engines that prefill all the time."""
        self._fade(now)
        return self._seconds / _MEMORY_SECONDS

    def of_decode(self, engines: Iterable[Engine]) -> float:
        """Engines that the KV of the decodes would fill."""
        held = 0.0
        for engine in engines:
            if engine.decoding:
                held += 1.0 - engine.free_blocks / engine.total_blocks
        return held / self._full

    def _fade(self, now: float) -> None:
        faded = math.exp((self._at - now) / _MEMORY_SECONDS)
        self._seconds *= faded
        self._count *= faded
        self._at = now
