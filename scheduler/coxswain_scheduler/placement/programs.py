"""Linear and integer programs, handed to HiGHS columns first and then row by row."""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray

INFINITY: float = highspy.kHighsInf
_OPTIONS: dict[str, bool | int | float | str] = {
    "output_flag": False,
    "threads": 1,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 1e-9,
    "mip_feasibility_tolerance": 1e-7,
    "mip_heuristic_run_feasibility_jump": False,
}
_PROVING = dict.fromkeys(
    ("mip_heuristic_run_rins", "mip_heuristic_run_rens", "mip_heuristic_run_root_reduced_cost"), False
)
"""A proof wants the search; heuristics that solve other programs on the way cost more than they save on small ones."""
_FINDING = {"presolve": "off"}
"""Where any solution will do, those heuristics find it."""
_SOLVED = highspy.HighsModelStatus.kOptimal
_NONE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)


@dataclass(frozen=True, slots=True)
class Solution:
    """An optimum, and what the variables are there."""

    value: float
    columns: NDArray[np.float64]


class Program:
    """min cost·x with low ≤ A·x ≤ high, on the calling thread, to a gap of nothing. May grow between two solves.

    `any_solution`: without costs, the first one found will do.
    """

    def __init__(self, *, any_solution: bool = False) -> None:
        self._highs = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in {**_OPTIONS, **(_FINDING if any_solution else _PROVING)}.items():
            self._highs.setOptionValue(option, value)
        self.columns = 0

    def add_columns(
        self,
        count: int,
        *,
        cost: ArrayLike = 0.0,
        low: ArrayLike = 0.0,
        high: ArrayLike = INFINITY,
        integer: bool = False,
    ) -> NDArray[np.int32]:
        """New variables, in no row yet; returns their indices. Scalars count for all of them."""
        added = np.arange(self.columns, self.columns + count, dtype=np.int32)
        cost_, low_, high_ = (np.full(count, values, np.float64) for values in (cost, low, high))
        empty = np.empty(0, np.int32)
        self._highs.addCols(count, cost_, low_, high_, 0, np.zeros(count, np.int32), empty, np.empty(0))
        if integer:
            self.make_integer(added)
        self.columns += count
        return added

    def add_row(self, columns: ArrayLike, values: ArrayLike, *, low: float = -INFINITY, high: float = INFINITY) -> None:
        """low ≤ values·x[columns] ≤ high."""
        indices = np.asarray(columns, np.int32)
        self._highs.addRow(low, high, len(indices), indices, np.full(len(indices), values, np.float64))

    def price(self, columns: NDArray[np.int32], cost: ArrayLike) -> None:
        """Change what variables cost."""
        self._highs.changeColsCost(len(columns), columns, np.full(len(columns), cost, np.float64))

    def limit(self, columns: NDArray[np.int32], *, low: ArrayLike, high: ArrayLike) -> None:
        """Change between what variables may lie."""
        edges = (np.full(len(columns), values, np.float64) for values in (low, high))
        self._highs.changeColsBounds(len(columns), columns, *edges)

    def make_integer(self, columns: NDArray[np.int32]) -> None:
        """From here on these variables are whole numbers."""
        self._highs.changeColsIntegrality(len(columns), columns, np.full(len(columns), _INTEGER, np.uint8))

    def solve(self) -> Solution | None:
        """The optimum, or None where there is no solution. Raises RuntimeError when HiGHS gives up."""
        self._highs.run()
        status = self._highs.getModelStatus()
        if status in _NONE:
            return None
        if status != _SOLVED:
            raise RuntimeError(f"HiGHS ended with {self._highs.modelStatusToString(status)}")
        value = self._highs.getInfo().objective_function_value
        return Solution(value, np.array(self._highs.getSolution().col_value))


_INTEGER = int(highspy.HighsVarType.kInteger)
