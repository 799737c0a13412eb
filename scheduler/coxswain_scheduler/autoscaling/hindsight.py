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

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coxswain_scheduler.autoscaling.capacity import EngineShape, Mix, serving
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.simulator.trace import Trace

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_NOTHING = 1e-6
"""Sequences in flight that are rounding errors."""


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


class _Window(NamedTuple):
    """What is in flight in a window, and what came in."""

    live: float
    context: float
    prompts: float
    prompt_tokens: float
    prompt_pairs: float


def hindsight(
    trace: Trace, shape: EngineShape, objectives: Objectives, *, window_seconds: float = 60.0, attainment: float = 0.99
) -> Hindsight:
    """Look at all of `trace`. Raises ValueError where one engine cannot carry a single mean request."""
    usual = serving(shape, _overall(trace), objectives, attainment=attainment)
    if not usual.sequences:
        raise ValueError("one engine cannot meet the objectives for even one mean request alone")
    needed = []
    for window in _windows(trace, usual.token_seconds, window_seconds):
        if window.live <= _NOTHING:
            needed.append(0)
            continue
        prompts = max(1.0, window.prompts)
        mix = Mix(
            context=window.context / window.live,
            output_tokens=window.live * window_seconds / usual.token_seconds / prompts,
            prompt_tokens=window.prompt_tokens / prompts,
            prompt_pairs=window.prompt_pairs / prompts,
        )
        each = serving(shape, mix, objectives, attainment=attainment)
        needed.append(max(1, math.ceil(window.live / max(1.0, each.sequences))))
    return Hindsight(window_seconds=window_seconds, needed=np.array(needed, dtype=np.int64))


def _overall(trace: Trace) -> Mix:
    _, prompt, output = _columns(trace)
    return Mix(
        context=float((output * (prompt + output / 2)).sum() / output.sum()),
        output_tokens=float(output.mean()),
        prompt_tokens=float(prompt.mean()),
        prompt_pairs=float(_pairs(prompt).mean()),
    )


def _windows(trace: Trace, token_seconds: float, width: float) -> list[_Window]:
    """Up to the last arrival."""
    arrival, prompt, output = _columns(trace)
    end = arrival + output * token_seconds
    windows = int(arrival[-1] // width) + 1
    ones = np.ones_like(arrival)
    borders = np.arange(windows + 1, dtype=np.float64) * width
    live = _spread(arrival, end, value=ones, slope=np.zeros_like(arrival), borders=borders)
    context = _spread(arrival, end, value=prompt, slope=ones / token_seconds, borders=borders)
    into = (arrival // width).astype(np.int64)
    sums = [np.bincount(into, weights=weights, minlength=windows) for weights in (ones, prompt, _pairs(prompt))]
    return [_Window(*map(float, row)) for row in zip(live, context, *sums, strict=True)]


def _pairs(prompt: Array) -> Array:
    result: Array = prompt * (prompt + 1) / 2
    return result


def _columns(trace: Trace) -> tuple[Array, Array, Array]:
    rows = [(request.arrival, request.prompt_tokens, request.output_tokens) for request in trace.requests]
    arrival, prompt, output = np.array(rows, dtype=np.float64).T
    return arrival, prompt, output


def _spread(begin: Array, end: Array, *, value: Array, slope: Array, borders: Array) -> Array:
    """Mean over each window of the sum of `value + slope * (time - begin)` over those between `begin` and `end`.

    The integral of that sum up to a window's border is a sum over those begun minus a sum over those ended, each a
    polynomial in time whose coefficients are prefix sums.
    """
    started = _integral(begin, value, slope, borders)
    length: Array = end - begin
    final: Array = value + slope * length
    ended = _integral(end, final, slope, borders)
    result: Array = np.diff(started - ended) / np.diff(borders)
    return result


def _integral(start: Array, value: Array, slope: Array, borders: Array) -> Array:
    """At each border `t`: the sum over `start <= t` of `value * (t - start) + slope * (t - start)^2 / 2`."""
    order = np.argsort(start, kind="stable")
    s, v, g = start[order], value[order], slope[order]
    upto = np.searchsorted(s, borders, side="right")
    c0, c1, c2 = (np.append(0.0, np.cumsum(terms))[upto] for terms in (g * s**2 / 2 - v * s, v - g * s, g / 2))
    result: Array = c0 + c1 * borders + c2 * borders**2
    return result
