"""Which counts of engines serve everything: the integer program, its rules and its wishes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coxswain_scheduler.placement.problem import Counts, Present, Problem, Vector
from coxswain_scheduler.placement.programs import INFINITY, Program

Columns = NDArray[np.int32]
"""Indices of a program's variables."""


class Mixes:
    """Counts per kind (whole), the share of each bucket that each kind serves, and the multiple of the rates served.

    The load of a kind, adding up `share·rate/throughput` over the buckets, is at most its count; a bucket's shares add
    up to the multiple, once over the kinds that prefill and once over those that decode. Counts stay within stock and
    `budget` (per hour). What costs least is looked for, at a multiple of 1.
    """

    def __init__(self, problem: Problem, *, budget: float | None = None) -> None:
        self._problem = problem
        self._program = Program()
        self._most = _useful(problem)
        self._sizes = np.array([float(kind.tensor_parallel) for kind in problem.kinds])
        self._moved: Columns | None = None
        kinds = len(problem.kinds)
        self._counts = self._program.add_columns(kinds, cost=problem.prices, high=self._most, integer=True)
        self._multiple = self._program.add_columns(1, low=1.0, high=1.0)
        self._kinds, self._buckets = np.nonzero(np.isfinite(problem.loads) & (problem.loads > 0))
        self._parts = float(problem.slice_factor or 1)
        self._shares = self._program.add_columns(len(self._kinds))  # in parts of a bucket
        self._serve_all()
        self._fit()
        self._own_stock()
        if budget is not None:
            self._program.add_row(self._counts, problem.prices, high=budget)

    def solve(self) -> tuple[Counts, Vector, float] | None:
        """Counts `(E,)`, shares `(E, B)` and the multiple; None where nothing is left."""
        solution = self._program.solve()
        if solution is None:
            return None
        counts = np.rint(solution.columns[self._counts]).astype(np.int64)
        shares = np.zeros(self._problem.loads.shape)
        shares[self._kinds, self._buckets] = solution.columns[self._shares] / self._parts
        return counts, shares, float(solution.columns[self._multiple][0])

    def stretch(self, *, most: float = INFINITY) -> None:
        """Look for the largest multiple up to `most`, whatever it costs."""
        self._program.price(self._counts, 0.0)
        self._program.limit(self._multiple, low=0.0, high=most)
        self._program.price(self._multiple, -1.0)

    def fix(self, counts: Counts) -> None:
        """Only this mix."""
        self._program.limit(self._counts, low=counts, high=counts)

    def forbid(self, counts: Counts) -> None:
        """Of some kind there must be more than in this mix: it, and all that it contains, do not do."""
        wider = np.flatnonzero(counts < self._most)
        more = self._program.add_columns(len(wider), high=1.0, integer=True)
        for kind, flag in zip(wider, more, strict=True):
            self._program.add_row([self._counts[kind], flag], [1.0, -float(counts[kind] + 1)], low=0.0)
        self._program.add_row(more, 1.0, low=1.0)

    def cut_in_parts(self) -> None:
        """Shares are whole numbers of parts. Exact but slow: `parted` is tried first, mix by mix."""
        self._program.make_integer(self._shares)

    def charge(self, present: Present) -> None:
        """Let changes cost something."""
        self._program.price(self._changes(), self._change_costs(present))

    def settle(self, present: Present, counts: Counts) -> None:
        """After `charge`: look for the fewest changes among the mixes that cost about as much as this one."""
        money = np.concatenate([self._problem.prices, self._change_costs(present)])
        moved = [counts[machine].sum() - self._problem.running(machine) for machine in self._problem.machines.values()]
        amounts = np.concatenate([counts, np.maximum(moved, 0), np.maximum(np.negative(moved), 0)])
        limit = float(money @ amounts) * (1 + present.tolerance) + 1e-6
        columns = np.concatenate([self._counts, self._changes()])
        self._program.add_row(columns, money, high=limit)
        # All the money together weighs half a change: it only decides between equals.
        changes = np.concatenate([np.zeros(len(counts)), self._change_costs(Present(engines={}, start=1.0, stop=1.0))])
        self._program.price(columns, changes + money / (2 * limit))

    def _changes(self) -> Columns:
        """How many engines of each machine are started, and how many are stopped."""
        if self._moved is None:
            count = len(self._problem.machines)
            self._moved = self._program.add_columns(2 * count)
            for index, machine in enumerate(self._problem.machines.values()):
                there = float(self._problem.running(machine))
                moved = self._moved[[index, count + index]]
                entries = np.concatenate([np.ones(len(machine)), [-1.0, 1.0]])
                self._program.add_row(np.append(self._counts[machine], moved), entries, low=there, high=there)
        return self._moved

    def _change_costs(self, present: Present) -> Vector:
        """Per hour, of starting and of stopping an engine of each machine."""
        sizes = np.array([float(size) for _, size in self._problem.machines])
        return np.concatenate([once / present.hours * sizes for once in (present.start, present.stop)])

    def _serve_all(self) -> None:
        for half in ("Decode", "Prefill") if self._problem.staged else ("Decode",):
            able = np.array([kind.role != half for kind in self._problem.kinds])[self._kinds]
            for b in np.flatnonzero([bucket.rate > 0 for bucket in self._problem.buckets]):
                mine = self._shares[able & (self._buckets == b)]
                entries = np.append(np.ones(len(mine)), -self._parts)
                self._program.add_row(np.append(mine, self._multiple), entries, low=0.0, high=0.0)

    def _fit(self) -> None:
        for e in range(len(self._problem.kinds)):
            mine = self._kinds == e
            loads = self._problem.loads[e, self._buckets[mine]] / self._parts
            self._program.add_row(np.append(self._shares[mine], self._counts[e]), np.append(loads, -1.0), high=0.0)

    def _own_stock(self) -> None:
        for accelerator, there in self._problem.stock.items():
            mine = np.flatnonzero([kind.accelerator == accelerator for kind in self._problem.kinds])
            if len(mine):
                self._program.add_row(self._counts[mine], self._sizes[mine], high=float(there))


_ROUNDING = 1e-6
"""Engines by which a load may exceed a count: rounding, not a choice."""


def _useful(problem: Problem) -> Counts:
    """More engines of a kind than these are of no use, or not there."""
    loads = np.where(np.isfinite(problem.loads), problem.loads, 0.0)
    most = np.ceil(loads.sum(axis=1) + _ROUNDING)
    for e, kind in enumerate(problem.kinds):
        if problem.present is not None:
            most[e] = max(most[e], problem.present.engines.get(kind.name, 0))
        if kind.accelerator in problem.stock:
            most[e] = min(most[e], problem.stock[kind.accelerator] // kind.tensor_parallel)
    return np.asarray(most, np.int64)
