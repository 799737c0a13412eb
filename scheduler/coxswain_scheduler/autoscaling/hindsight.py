"""What hindsight would have asked for: the bounds that an autoscaler is printed beside.

Both know every request of the trace, and ask the same capacity model as the autoscaler. Time is cut into windows; a
request is in flight from its arrival for as long as its answer takes on engines at capacity, and each window needs as
many engines as carry what is in flight in it.

- clairvoyant: the least counts that have what each window needs, where an engine takes its start-up time, is paid from
  the moment it is asked for, and is kept over a gap when that is cheaper than to start another: at each moment the
  largest need between now and the end of the start-up time.
- peak-static: the constant count that holds the worst window, or a given percentile of the windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coxswain_scheduler.autoscaling.capacity import EngineShape, Mix, serving
from coxswain_scheduler.policies.interface import Objectives
from coxswain_scheduler.simulator.trace import Trace

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """Engines that each window of a trace needs."""

    window_seconds: float
    needed: Whole

    def clairvoyant(self, startup_seconds: float) -> Whole:
        """Engines paid for in each window, those that start up included."""
        ahead = int(np.ceil(startup_seconds / self.window_seconds))
        padded = np.append(self.needed, np.zeros(ahead, dtype=np.int64))
        most: Whole = np.lib.stride_tricks.sliding_window_view(padded, ahead + 1).max(axis=1)
        return most

    def static(self, percentile: float = 100.0) -> int:
        """The constant count that holds that share of the windows."""
        return int(np.percentile(self.needed, percentile, method="higher"))


def hindsight(
    trace: Trace, shape: EngineShape, objectives: Objectives, *, window_seconds: float = 60.0, attainment: float = 0.99
) -> Hindsight:
    """Look at all of `trace`. Raises ValueError where one engine cannot carry a single mean request."""
    arrival, prompt, output = _columns(trace)
    overall = Mix(
        float((output * (prompt + output / 2)).sum() / output.sum()),
        float(output.mean()),
        float(prompt.mean()),
        float((prompt * (prompt + 1) / 2).mean()),
    )
    usual = serving(shape, overall, objectives, attainment=attainment)
    if not usual.sequences:
        raise ValueError("no engine of this profile meets the objectives, not even for one mean request alone")
    windows = int(arrival[-1] // window_seconds) + 1
    end = arrival + output * usual.token_seconds
    live = _spread(arrival, end, np.ones_like(arrival), np.zeros_like(arrival), windows, window_seconds)
    growing = np.full_like(arrival, 1 / usual.token_seconds)
    context = _spread(arrival, end, prompt, growing, windows, window_seconds)
    into = np.minimum((arrival / window_seconds).astype(np.int64), windows - 1)
    counts, tokens, pairs = (
        np.bincount(into, weights=weights, minlength=windows)
        for weights in (np.ones_like(prompt), prompt, prompt * (prompt + 1) / 2)
    )
    needed = np.zeros(windows, dtype=np.int64)
    for w in range(windows):
        if live[w] > 0:
            some = max(1.0, counts[w])
            decoded = live[w] * window_seconds / usual.token_seconds
            mix = Mix(context[w] / live[w], decoded / some, tokens[w] / some, pairs[w] / some)
            each = serving(shape, mix, objectives, attainment=attainment)
            needed[w] = max(1, int(np.ceil(live[w] / max(1e-9, each.sequences))))
    return Hindsight(window_seconds=window_seconds, needed=needed)


def _columns(trace: Trace) -> tuple[Array, Array, Array]:
    rows = [(request.arrival, request.prompt_tokens, request.output_tokens) for request in trace.requests]
    arrival, prompt, output = np.array(rows, dtype=np.float64).T
    return arrival, prompt, output


def _spread(begin: Array, end: Array, value: Array, slope: Array, windows: int, width: float) -> Array:
    """Mean over each window of the sum of `value + slope * (time - begin)` over those between `begin` and `end`.

    The integral of that sum up to a window's border is a sum over those begun minus a sum over those ended, each a
    polynomial in time whose coefficients are prefix sums.
    """
    borders = np.arange(windows + 1) * width
    started = _integral(begin, value, slope, borders)
    length = end - begin
    ended = _integral(end, value + slope * length, slope, borders)
    result: Array = np.diff(started - ended) / width
    return result


def _integral(start: Array, value: Array, slope: Array, borders: Array) -> Array:
    """At each border `t`: the sum over `start <= t` of `value * (t - start) + slope * (t - start)^2 / 2`."""
    order = np.argsort(start, kind="stable")
    s, v, g = start[order], value[order], slope[order]
    upto = np.searchsorted(s, borders, side="right")
    c0, c1, c2 = (
        np.append(0.0, np.cumsum(terms))[upto]
        for terms in (g * s**2 / 2 - v * s, v - g * s, g / 2)
    )
    result: Array = c0 + c1 * borders + c2 * borders**2
    return result
