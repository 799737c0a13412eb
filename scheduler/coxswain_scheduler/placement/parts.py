"""Buckets cut in parts that are served whole, for a given mix."""

from __future__ import annotations

import numpy as np

from coxswain_scheduler.placement.problem import Counts, Problem, Vector
from coxswain_scheduler.placement.programs import Program

_ROUNDING = 1e-6
"""Engines by which a part may be too large: rounding, not a choice."""


def parted(problem: Problem, counts: Counts, *, parts: int) -> Vector | None:
    """Shares `(E, B)` in multiples of 1/`parts` that this mix can serve, or None where there are none.

    Mélange's rule. Its program has a variable for each part and kind; the parts of a bucket are alike, and counting
    them is enough.
    """
    loads = problem.loads / parts
    kinds, buckets = np.nonzero((loads > 0) & (loads <= counts[:, None] + _ROUNDING))
    program = Program(any_solution=True)
    columns = program.add_columns(len(kinds), high=float(parts), integer=True)
    for b in np.flatnonzero([bucket.rate > 0 for bucket in problem.buckets]):
        program.add_row(columns[buckets == b], 1.0, low=float(parts), high=float(parts))
    for e, count in enumerate(counts):
        mine = kinds == e
        program.add_row(columns[mine], loads[e, buckets[mine]], high=float(count))
    solution = program.solve()
    if solution is None:
        return None
    shares = np.zeros(loads.shape)
    shares[kinds, buckets] = np.rint(solution.columns) / parts
    return shares
