"""Moving averages of what flows through a service."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coxswain_scheduler.autoscaling.observation import Observation

Array = npt.NDArray[np.float64]

FAST_SECONDS = 60.0
SLOW_SECONDS = 300.0
_MIX_SECONDS = 600.0


class Average:
    """Exponential moving average over time, right from its first samples (bias-corrected)."""

    __slots__ = ("_seconds", "_sum", "_weight")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sum = 0.0
        self._weight = 0.0

    def add(self, total: float, weight: float) -> None:
        """`total` over `weight` units (seconds of time, or a number of things)."""
        self._sum += total
        self._weight += weight

    def age(self, seconds: float) -> None:
        """Let time pass."""
        keep = 2.718281828459045 ** (-seconds / self._seconds)
        self._sum *= keep
        self._weight *= keep

    def value(self, default: float = 0.0) -> float:
        """The average of a unit; `default` without any."""
        return self._sum / self._weight if self._weight > 0 else default


class Rates:
    """Arrivals, prompts, tokens and KV of a service, averaged."""

    def __init__(self) -> None:
        self._fast = Average(FAST_SECONDS)
        self._slow = Average(SLOW_SECONDS)
        self._prompt_tokens = Average(_MIX_SECONDS)
        self._prompt_pairs = Average(_MIX_SECONDS)
        self._context = Average(FAST_SECONDS)
        self._alive = Average(FAST_SECONDS / 2)
        self._written = 0.0
        self._live = 0

    def observe(self, seen: Observation, *, live: Array, ended: Array, seconds: float) -> None:
        """Take what happened in the last `seconds`: `live` and `ended` are tokens of the requests in `seen`."""
        for average in vars(self).values():
            if isinstance(average, Average):
                average.age(seconds)
        for average in (self._fast, self._slow):
            average.add(len(seen.arrivals), seconds)
        self._prompt_tokens.add(sum(seen.arrivals), len(seen.arrivals))
        self._prompt_pairs.add(sum(n * (n + 1) / 2 for n in seen.arrivals), len(seen.arrivals))
        self._context.add(seen.context, len(live))
        tokens = max(0.0, float(live.sum() + ended.sum()) - self._written)
        self._alive.add((self._live + len(live)) / 2 * seconds, tokens)
        self._written, self._live = float(live.sum()), len(live)

    @property
    def arrivals(self) -> float:
        """Requests per second: what the last minute says, or the last five where that is more."""
        return max(self._fast.value(), self._slow.value())

    @property
    def prompt_tokens(self) -> float:
        """Of one prompt."""
        return max(1.0, self._prompt_tokens.value(1.0))

    @property
    def prompt_pairs(self) -> float:
        """Query-key pairs of one prompt."""
        return max(1.0, self._prompt_pairs.value(1.0))

    def context(self, default: float) -> float:
        """KV tokens of one live request."""
        return max(1.0, self._context.value(default))

    @property
    def token_seconds(self) -> float:
        """Seconds between two tokens of a live request, on average; 0 where none was written."""
        return self._alive.value()
