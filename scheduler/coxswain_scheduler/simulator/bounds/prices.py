"""The least that a token costs in any step of an engine: what makes bounds independent of how steps are composed.

`Prices` are linear: a step takes at least `tokens·a + pairs·b + decodes·c + context·d` seconds, whatever else is in it.
Adding that up over all steps, a request costs the cluster at least the price of its own tokens, pairs and context. Of
all such prices `cheapest` takes those that make a given amount of work dearest: a linear program with one row for each
composition of a step (in other words, the dual of packing the work into the best steps there are).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import highspy
import numpy as np

from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.simulator.setup import EngineSpec

_LONGEST_PROMPT = 131_072
_COARSE, _FINE = 1.25, 1.07
"""Steps considered grow by this factor: in the program, and when its answer is checked."""
_CAUTION = 0.999
"""For the steps between those checked."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds of an engine, at least, for each unit of work."""

    token: float
    pair: float
    decode: float
    context: float

    def prefill(self, *, tokens: float, pairs: float) -> float:
        """Seconds that computing so much of a prompt takes at least."""
        return tokens * self.token + pairs * self.pair

    def decoding(self, *, steps: float, context: float) -> float:
        """Seconds that so many output tokens take at least, that attend to `context` KV tokens in all."""
        return steps * self.decode + context * self.context


def cheapest(engines: Iterable[EngineSpec], total: Work) -> Prices:
    """Prices that no step of any of the engines undercuts, and that make `total` as dear as possible.

    Steps with full KV memory are the largest considered: tokens shared by two sequences count once. Between the steps
    of the grid the cost is taken to be smooth: the answer is lowered until it holds on a grid four times as fine.
    """
    kinds = tuple(dict.fromkeys(engines))
    rows, seconds = _constraints(kinds, _COARSE)
    scale = rows.max(axis=0)
    prices = _solve(rows / scale, seconds, np.array(total.amounts, dtype=float) / scale) / scale
    finer, lasting = _constraints(kinds, _FINE)
    prices *= _CAUTION * min(1.0, float(np.min(lasting / np.maximum(finer @ prices, 1e-300))))
    return Prices(*(float(price) for price in prices))


@lru_cache(maxsize=16)
def _constraints(kinds: tuple[EngineSpec, ...], growth: float) -> tuple[np.ndarray, np.ndarray]:
    works = [(kind, work) for kind in kinds for work in _steps(kind, growth)]
    rows = np.array([work.amounts for _, work in works], dtype=float)
    return rows, np.array([kind.timing.seconds(work) for kind, work in works])


def _steps(kind: EngineSpec, growth: float) -> Iterator[Work]:
    """Steps that prefill, that decode, and a coarser choice of those that do both."""
    capacity = kind.total_blocks * kind.block_size
    prefills = [
        (tokens, pairs)
        for tokens in _ladder(min(_LONGEST_PROMPT, capacity), growth)
        for pairs in {tokens * (tokens + 1) // 2, tokens * max(tokens, _LONGEST_PROMPT)}
    ]
    decodes = [
        (count, context)
        for count in _ladder(kind.max_num_seqs, growth * growth)
        for context in {min(capacity, count * each) for each in (1, *_ladder(_LONGEST_PROMPT, growth * growth))}
    ]
    for tokens, pairs in prefills:
        yield Work(tokens, pairs)
    for count, context in decodes:
        yield Work(0, 0, count, context)
    for (tokens, pairs), (count, context) in itertools.product(prefills[:: len(prefills) // 24], decodes[::6]):
        yield Work(tokens, pairs, count, context)


def _ladder(top: int, growth: float) -> list[int]:
    """Whole numbers from 1 to `top`, each about `growth` times the one before."""
    count = int(np.ceil(np.log(max(2, top)) / np.log(growth))) + 1
    return sorted({int(value) for value in np.rint(np.geomspace(1, top, count))})


def _solve(rows: np.ndarray, seconds: np.ndarray, total: np.ndarray) -> np.ndarray:
    """max total·x, where rows·x ≤ seconds and x ≥ 0."""
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    columns = rows.shape[1]
    for value in total:
        solver.addVar(0.0, highspy.kHighsInf)
        solver.changeColCost(solver.getNumCol() - 1, -float(value))
    every = np.arange(columns, dtype=np.int32)
    for row, limit in zip(rows, seconds, strict=True):
        solver.addRow(-highspy.kHighsInf, float(limit), columns, every, row)
    solver.run()
    return np.array(solver.getSolution().col_value)
