"""Buckets cut in equal parts, each served whole by one kind of engine: Mélange's rule, for a given mix.

Mélange's program has a variable for each part and kind; here the parts of a bucket are alike and only counted.
"""

from __future__ import annotations

import numpy as np

from coxswain_scheduler.placement.problem import Problem, Vector
from coxswain_scheduler.placement.programs import Program
from coxswain_scheduler.placement.shares import OVERLOAD, Counts


def parted(problem: Problem, counts_E: Counts, *, parts: int) -> Vector | None:
    """Shares `(E, B)` in multiples of 1/`parts` that this mix can serve, or None where there are none."""
    loads_EB = problem.loads_EB / parts
    able_EB = (loads_EB > 0) & (loads_EB <= counts_E[:, None] + OVERLOAD)
    kinds, buckets = np.nonzero(able_EB)
    program = Program()
    columns = program.add_columns(len(kinds), high=float(parts), integer=True)
    for b in np.flatnonzero([bucket.rate > 0 for bucket in problem.buckets]):
        mine = columns[buckets == b]
        if not len(mine):
            return None
        program.add_row(mine, 1.0, low=float(parts), high=float(parts))
    for e, count in enumerate(counts_E):
        mine = kinds == e
        program.add_row(columns[mine], loads_EB[e, buckets[mine]], high=float(count))
    solution = program.solve()
    if solution is None:
        return None
    shares_EB = np.zeros(loads_EB.shape)
    shares_EB[kinds, buckets] = np.rint(solution.columns) / parts
    return shares_EB
