"""How many requests can be good at all, at a given speed-up, on so many engines.

For any policy, and any composition of steps, a request that is good has been given its work in time:
its prompt, less what any earlier request had in common with it, within the objective for the first token; its output
by the end that the mean inter-token objective allows. The work is counted at prices that no step undercuts
(`prices`), so whatever else ran in the same step has its own seconds. Two things could make work vanish, and are
allowed for. A prompt's common part is charged only to the request that arrived first: whoever computes it does so
before that one's first token, if it is good; if it is not, nobody is charged. And context that two sequences share may
be read once for both: of requests with a common chunk that could decode at the same time, one is charged for it.

In an interval of t seconds K engines give K·t seconds. Requests whose windows lie inside must find their work there;
where it does not fit, some of them are not good, and fewest if those with most work are left out first (Moore and
Hodgson's rule, exact where all work of the interval may be done at any time in it). A request's window for the first
token lies in at most one of several disjoint intervals, and its window for the output then lies in no other: so what
disjoint intervals leave out adds up, and the best set of disjoint intervals is found by dynamic programming.

The number is a bound, not an estimate: caches of unlimited size, free transfers, perfect packing, work that any number
of engines can share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.simulator.bounds.feasibility import feasible
from coxswain_scheduler.simulator.bounds.fluid import context_tokens
from coxswain_scheduler.simulator.bounds.prefixes import infinite_cache
from coxswain_scheduler.simulator.bounds.prices import Prices, cheapest
from coxswain_scheduler.simulator.setup import Setup
from coxswain_scheduler.simulator.trace import Trace, TraceRequest

_MOST_EDGES = 1024
_LEAST_SECONDS = 0.05
_SLACK = 1e-9


class Demand(NamedTuple):
    """Work that must be done within windows, one row for each request; seconds."""

    arrival: np.ndarray
    first: np.ndarray
    """When the first token is due."""
    last: np.ndarray
    """When the last token is due."""
    prefill: np.ndarray
    decode: np.ndarray


class _Interval(NamedTuple):
    start: int
    end: int
    dropped: int


def most_good(trace: Trace, setup: Setup, *, chosen: Sequence[bool] | None = None) -> int:
    """The most requests of `trace` that any policy can make good on `setup`, whose engines are all there will be.

    `chosen` says which can be good in isolation, by default those that are `feasible`. Requests that wait for others
    (`after`) are counted as good: their windows depend on the policy.
    """
    cached = infinite_cache(trace, block_size=setup.engines[0].block_size)
    if chosen is None:
        chosen = feasible(trace, setup.engines, ttft=setup.objectives.ttft, cached=cached)
    demand = _demand(trace, setup, cached, chosen)
    return sum(chosen) - _left_out(demand, engines=len(setup.engines))


def _demand(trace: Trace, setup: Setup, cached: Sequence[int], chosen: Sequence[bool]) -> Demand:
    aims = setup.objectives
    paid_until: dict[int, float] = {}
    rows = []
    for request, known, counts in zip(trace.requests, cached, chosen, strict=True):
        if not counts or request.after:
            continue
        steps = request.output_tokens - 1
        arrival = request.arrival / setup.speedup
        first = arrival + aims.ttft
        last = first + aims.inter_token * steps
        own = _own_tokens(request, trace.chunk_tokens, arrival, last, paid_until)
        tokens = request.prompt_tokens - known
        pairs = tokens * known + tokens * (tokens + 1) // 2
        rows.append((arrival, first, last, tokens, pairs, steps, context_tokens(own, steps)))
    table = np.array(rows, dtype=float).reshape(-1, 7).T
    arrivals, firsts, lasts, *work = table
    prices = cheapest(setup.engines, Work(*(int(kind.sum()) for kind in work)))
    return Demand(arrivals, firsts, lasts, *_priced(prices, work))


def _priced(prices: Prices, work: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    tokens, pairs, steps, context = work
    return tokens * prices.token + pairs * prices.pair, steps * prices.decode + context * prices.context


def _own_tokens(
    request: TraceRequest, chunk_tokens: int, arrival: float, last: float, paid_until: dict[int, float]
) -> int:
    """Prompt tokens whose reading is charged to this request: no other pays for them while it may live."""
    if not request.chunks:
        return request.prompt_tokens
    own = 0
    for index, chunk in enumerate(request.chunks):
        if paid_until.get(chunk, -1.0) < arrival:
            paid_until[chunk] = last
            own += min(chunk_tokens, request.prompt_tokens - index * chunk_tokens)
    return own


def _left_out(demand: Demand, *, engines: int) -> int:
    """Requests that cannot be good, at least: the most over sets of disjoint intervals."""
    if not len(demand.arrival):
        return 0
    edges = _edges(demand)
    intervals = _overfull(demand, edges, engines)
    intervals.sort(key=lambda interval: interval.end)
    ends = [interval.end for interval in intervals]
    best = [0]
    for index, interval in enumerate(intervals):
        before = bisect_right(ends, interval.start, hi=index)
        best.append(max(best[-1], best[before] + interval.dropped))
    return best[-1]


def _edges(demand: Demand) -> np.ndarray:
    end = float(demand.last.max()) + _LEAST_SECONDS
    return np.linspace(0.0, end, 1 + min(_MOST_EDGES, int(np.ceil(end / _LEAST_SECONDS))))


def _overfull(demand: Demand, edges: np.ndarray, engines: int) -> list[_Interval]:
    """For each start the fullest interval, and for each end, where more work is due than there is time."""
    start = np.searchsorted(edges, demand.arrival + _SLACK, side="right") - 1
    first = np.searchsorted(edges, demand.first - _SLACK)
    last = np.searchsorted(edges, demand.last - _SLACK)
    due = np.zeros((len(edges), len(edges)))
    np.add.at(due, (start, first), demand.prefill)
    np.add.at(due, (start, last), demand.decode)
    within = due[::-1].cumsum(axis=0)[::-1].cumsum(axis=1)
    excess = within - engines * (edges[None, :] - edges[:, None])
    excess[np.tril_indices(len(edges))] = -1.0
    candidates = {*enumerate(excess.argmax(axis=1)), *((s, e) for e, s in enumerate(excess.argmax(axis=0)))}
    return [
        _Interval(int(s), int(e), _drops(demand, start >= s, first <= e, last <= e, engines * (edges[e] - edges[s])))
        for s, e in candidates
        if excess[s, e] > _SLACK
    ]


def _drops(demand: Demand, starts: np.ndarray, firsts: np.ndarray, lasts: np.ndarray, seconds: float) -> int:
    """How many requests must be left out for the others' work in an interval to take at most `seconds`."""
    work = (demand.prefill * firsts + demand.decode * lasts)[starts & firsts]
    kept = np.cumsum(np.sort(work))
    return len(work) - int(np.searchsorted(kept, seconds + _SLACK, side="right"))
