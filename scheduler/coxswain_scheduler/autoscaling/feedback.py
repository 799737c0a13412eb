"""What the forecast cannot know: engines slower than their cost model, requests that are late all the same."""

from __future__ import annotations

from coxswain_scheduler.autoscaling.observation import Observation
from coxswain_scheduler.autoscaling.rates import Average

_SLOWNESS_SECONDS = 300.0
_SLOWEST = 1.5
_TOLERATED = 1.05
"""Engines so much slower than their model are as it says: the headroom is for that."""
_BUDGET_SECONDS = 3600.0
"""Over so long the share of missed objectives is taken."""
_PRESSURE_PER_SECOND = 0.003 / 60
_PRESSURE_MOST = 0.5


class Feedback:
    """Two corrections of the forecast. They are 1 and 0 while all is well."""

    def __init__(self) -> None:
        self.slowness = 1.0
        """Time of a token over the model's, averaged; at least 1, as being faster is no reason to have fewer engines
        than the model says."""
        self._pace = 1.0
        self.pressure = 0.0
        """Share of engines on top: grows as long as more requests miss their objectives than may, and fades again."""
        self._missed = Average(_BUDGET_SECONDS)

    def pace(self, *, measured: float, model: float, seconds: float) -> None:
        """Engines took `measured` seconds a token where the cost model says `model`, for the last `seconds`."""
        if measured > 0 and model > 0:
            ratio = min(_SLOWEST, measured / model)
            self._pace += min(1.0, seconds / _SLOWNESS_SECONDS) * (ratio - self._pace)
            self.slowness = max(1.0, self._pace / _TOLERATED)

    def missed(self, seen: Observation, *, allowed: float, seconds: float) -> None:
        """Compare the share that missed the objectives with what is `allowed`."""
        self._missed.age(seconds)
        self._missed.add(seen.judged - seen.met, seen.judged)
        error = min(1.0, self._missed.value() / allowed - 1.0)
        self.pressure = min(_PRESSURE_MOST, max(0.0, self.pressure + error * _PRESSURE_PER_SECOND * seconds))
