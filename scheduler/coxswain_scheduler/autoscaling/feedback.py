"""What the forecast cannot know: engines slower than their cost model, requests that are late all the same."""

from __future__ import annotations

from coxswain_scheduler.autoscaling.observation import Observation

_SLOWNESS_SECONDS = 300.0
_SLOWEST = 1.5
_PRESSURE_STEP = 0.05
_PRESSURE_DECAY = 0.95
_PRESSURE_MOST = 0.5
_FULL = 0.8
"""Share of the capacity from which on a missed objective is taken for a lack of engines."""


class Feedback:
    """Two factors on the forecast. Both are 1 while all is well."""

    def __init__(self) -> None:
        self.slowness = 1.0
        """Time of a token over the model's, averaged; at least 1, as being faster is no reason to have fewer engines
        than the model says."""
        self.pressure = 0.0
        """Share of engines on top: grows with each observation that finds requests late, and fades."""

    def pace(self, *, measured: float, model: float, seconds: float) -> None:
        """Engines took `measured` seconds a token where the cost model says `model`, for the last `seconds`."""
        if measured > 0 and model > 0:
            ratio = min(_SLOWEST, max(1.0, measured / model))
            self.slowness += min(1.0, seconds / _SLOWNESS_SECONDS) * (ratio - self.slowness)

    def lateness(self, seen: Observation, *, ttft: float, attainment: float, used: float) -> None:
        """Whether requests wait too long, or missed their objectives on engines that are `used` to that share."""
        waits = seen.oldest_wait > ttft / 2
        missed = used > _FULL and seen.judged > 0 and seen.met < attainment * seen.judged
        if waits or missed:
            self.pressure = min(_PRESSURE_MOST, self.pressure + _PRESSURE_STEP)
        else:
            self.pressure *= _PRESSURE_DECAY
