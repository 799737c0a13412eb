"""What a service is asked for: sequences in flight, now and as far ahead as an engine takes to start.

What is in flight says little by itself. Engines that are nearly empty write fast and have few sequences in flight;
those that have just come in great number write fast until a queue is gone; where engines lack, sequences are in a queue
instead. So demand is what would be in flight had every request been started at once and been answered at the pace of
engines at capacity: a request of known length is in flight for so many tokens' time, one still under way with the
chance that it gets that long (`Lengths`). This depends on the requests alone, not on the engines that there are.

What waits or has fallen behind is work on top. Engines asked for by the length of a queue would come when it is gone,
so it counts as a flow, at the rate that clears it in good time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coxswain_scheduler.autoscaling.capacity import Mix
from coxswain_scheduler.autoscaling.lengths import Lengths
from coxswain_scheduler.autoscaling.observation import Observation
from coxswain_scheduler.autoscaling.rates import Rates

Array = npt.NDArray[np.float64]

_CLEARING_SECONDS = 300.0
"""A queue is worked off in so long, or in the start-up time where that is longer."""


class Demand:
    """Learns lengths and rates from observations, and forecasts by them."""

    def __init__(self) -> None:
        self.lengths = Lengths()
        self.rates = Rates()
        self.live = 0
        """Requests under way that have a token."""
        self._open = np.zeros((2, 0))
        """Tokens and age of each request that has not ended."""
        self._ended = np.zeros((2, 0))
        """The same of those that have, but would still be under way at capacity."""

    def observe(self, seen: Observation, *, seconds: float, token_seconds: float) -> None:
        """Take what happened in the last `seconds`."""
        self._open, ended = _columns(seen.open), _columns(seen.ended)
        live = self._open[0][self._open[0] > 0]
        self.live = len(live)
        self.lengths.observe(live=live, ended=ended[0], seconds=seconds)
        self.rates.observe(seen, live=live, ended=ended[0], seconds=seconds)
        self._ended[1] += seconds
        known = np.hstack([self._ended, ended])
        self._ended = known[:, known[0] * token_seconds > known[1]]

    @property
    def mix(self) -> Mix:
        """What a sequence in flight brings with it."""
        rates, lengths = self.rates, self.lengths
        context = rates.context(rates.prompt_tokens + lengths.mean_age)
        return Mix(context, lengths.mean, rates.prompt_tokens, rates.prompt_pairs)

    def current(self, token_seconds: float) -> float:
        """Sequences in flight now."""
        return self._staying(0.0, token_seconds)

    def ahead(self, token_seconds: float, *, startup_seconds: float) -> float:
        """Sequences in flight when an engine asked for now is ready, and those that work off what is behind."""
        behind = self._open.shape[1] - self._under_way(0.0, token_seconds)
        arrivals = self.rates.arrivals + behind / max(_CLEARING_SECONDS, startup_seconds)
        fresh = arrivals * self.lengths.young(startup_seconds / token_seconds) * token_seconds
        return self._staying(startup_seconds, token_seconds) + fresh

    def _staying(self, seconds: float, token_seconds: float) -> float:
        """Of the requests that have come so far, those in flight after `seconds`."""
        tokens, age = self._ended
        return self._under_way(seconds, token_seconds) + float((tokens * token_seconds > age + seconds).sum())

    def _under_way(self, seconds: float, token_seconds: float) -> float:
        """The same of those that have not ended."""
        tokens, age = self._open
        due = np.maximum(tokens, (age + seconds) / token_seconds)
        return float((self.lengths.survival(due) / np.maximum(self.lengths.survival(tokens), 1e-12)).sum())


def _columns(answers: object) -> Array:
    return np.array(answers, dtype=np.float64).reshape(-1, 2).T.copy()
