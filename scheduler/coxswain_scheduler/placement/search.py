"""The search for the cheapest mix, and for the one that carries most."""

from __future__ import annotations

from coxswain_scheduler.placement.mixes import Mixes
from coxswain_scheduler.placement.parts import parted
from coxswain_scheduler.placement.problem import Counts, Problem, Vector

_TRIES = 3
"""Mixes tried against parts before the parts become variables: seldom is it the second that fits."""


def cheapest(problem: Problem) -> tuple[Counts, Vector] | None:
    """Counts `(E,)` and shares `(E, B)` of the cheapest mix, or None where stock and budget allow none.

    With a present mix: the fewest changes among the mixes that cost as little, changes and tolerance reckoned in.
    """
    mixes = Mixes(problem, budget=problem.budget)
    if problem.present is None:
        return _next(problem, mixes)
    mixes.charge(problem.present)
    found = _next(problem, mixes)
    if found is None:
        return None
    mixes.settle(problem.present, found[0])
    return _next(problem, mixes)


def carries(problem: Problem, counts: Counts) -> tuple[float, Vector]:
    """How many times the rates a mix carries, in continuous shares, and the shares `(E, B)` when it does."""
    mixes = Mixes(problem)
    mixes.fix(counts)
    _, shares, multiple = _stretched(mixes)
    return multiple, shares / multiple if multiple else shares


def largest(problem: Problem, *, budget: float | None) -> tuple[Counts, float]:
    """The mix that carries the largest multiple of the rates, up to 1, within stock and `budget`; and the multiple."""
    mixes = Mixes(problem, budget=budget)
    counts, _, multiple = _stretched(mixes, most=1.0)
    return counts, multiple


def _stretched(mixes: Mixes, *, most: float | None = None) -> tuple[Counts, Vector, float]:
    mixes.stretch() if most is None else mixes.stretch(most=most)
    solution = mixes.solve()
    if solution is None:
        raise AssertionError("a mix of no engines carries nothing, which is a solution")
    return solution


def _next(problem: Problem, mixes: Mixes) -> tuple[Counts, Vector] | None:
    """The first mix that serves everything, in parts if the problem wants them.

    What carries everything in parts carries it in continuous shares too, so mixes are found with continuous shares and
    then tried; one that fails is forbidden with all that it contains.
    """
    parts = problem.slice_factor
    for _ in range(_TRIES):
        solution = mixes.solve()
        if solution is None or parts is None:
            return solution and solution[:2]
        shares = parted(problem, solution[0], parts=parts)
        if shares is not None:
            return solution[0], shares
        mixes.forbid(solution[0])
    mixes.cut_in_parts()
    solution = mixes.solve()
    return solution and solution[:2]
