"""How wrong forecasts have been, and so by how much the next ones are raised.

Each forecast is compared, when its time has come, with the load that was there. The factor on later forecasts is the
least one for which the load beyond it would have been no more than the share that the attainment goal allows to miss:
a newsvendor's answer on the recent errors. A service whose load is smooth pays for little headroom, one that jumps
pays for more, and no one has to say which it is.
"""

from __future__ import annotations

from collections import deque

import numpy as np

_MOST = 1.125
"""Surges go far beyond any headroom worth its price for the whole day: engines that start when they are seen serve
them sooner than a larger share of idle ones would pay off."""
_PRIOR_WEIGHT = 60.0
"""The starting factor counts like so many errors."""
_LEAST_FACTOR = 0.9
"""An engine over the share of its capacity that is thought usable still keeps the objectives, up to a point."""


class Headroom:
    """The factor by which forecasts are raised, so that no more than `excess` of the load comes on top."""

    def __init__(
        self, *, excess: float, half_life_seconds: float = 6 * 3600.0, start: float = _MOST, most: float = _MOST
    ) -> None:
        self._excess = excess
        self._half_life = half_life_seconds
        self._most = most
        self._errors: deque[tuple[float, float, float]] = deque([(0.0, start, _PRIOR_WEIGHT)])
        self.factor = start

    def settle(self, now: float, *, load: float, forecast: float) -> None:
        """The load at `now`, and what had been forecast for it."""
        if forecast <= 0:
            return
        self._errors.append((now, load / forecast, forecast))
        while self._errors[0][0] < now - 4 * self._half_life:
            self._errors.popleft()
        self.factor = min(self._most, max(_LEAST_FACTOR, self._least(now)))

    def _least(self, now: float) -> float:
        """The factor at which the weighted excess over it equals what is allowed."""
        times, ratios, sizes = np.array(self._errors).T
        weights = sizes * 0.5 ** ((now - times) / self._half_life)
        order = np.argsort(-ratios)
        ratios, weights = ratios[order], weights[order]
        allowed = self._excess * float((ratios * weights).sum())
        above = np.cumsum(weights)
        excess = np.cumsum(ratios * weights) - above * np.append(ratios[1:], 0.0)
        last = int(np.searchsorted(excess, allowed))
        if last >= len(ratios):
            return 0.0
        return float((np.cumsum(ratios * weights)[last] - allowed) / above[last])
