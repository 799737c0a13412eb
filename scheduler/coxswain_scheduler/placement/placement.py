"""`place`: the cheapest mix for a problem, or what stands in the way and how far one can go."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from coxswain_scheduler.placement.problem import Counts, Problem, Vector
from coxswain_scheduler.placement.search import cheapest, largest


class InfeasibleError(ValueError):
    """No mix does it. The message is one line: what stands in the way, and the nearest that can be had."""


class UnservedError(InfeasibleError):
    """Some buckets no kind of engine can serve within the objectives, in any number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """The cheapest mix: proved so, the gap of the search is nothing."""

    problem: Problem
    counts: Counts
    """Engines of each kind."""
    shares: Vector
    """Of each bucket's requests, what each kind serves (prefills, decodes)."""

    @property
    def mix(self) -> dict[str, int]:
        """Engines by kind, those that there are."""
        return {self.problem.kinds[e].name: int(self.counts[e]) for e in np.flatnonzero(self.counts)}

    @property
    def cost(self) -> float:
        """Per hour."""
        return float(self.problem.prices @ self.counts)

    @property
    def bound(self) -> float:
        """Per hour; what no mix can go below, were engines divisible."""
        return self.problem.bound()

    @property
    def gap(self) -> float:
        """How far the cost is above the bound, as a share of it: what whole engines, stock and parts cost."""
        return self.cost / self.bound - 1 if self.bound > 0 else 0.0

    @property
    def used(self) -> Vector:
        """Engines that the shares take: at most the counts."""
        finite = np.where(np.isfinite(self.problem.loads), self.problem.loads, 0.0)
        return np.asarray((self.shares * finite).sum(axis=1))


def place(problem: Problem) -> Placement:
    """The cheapest mix of engines that serves every bucket, in whole engines.

    Raises:
        UnservedError: a bucket that no kind can serve.
        InfeasibleError: stock or budget do not suffice.
    """
    if unserved := problem.unserved():
        lost = sum(bucket.rate for bucket in unserved) / problem.rate
        raise UnservedError(
            f"no kind of engine serves requests of {' and of '.join(map(str, unserved[:3]))}"
            f"{f' and {len(unserved) - 3} more sizes' if len(unserved) > 3 else ''} ({lost:.2%} of all) as asked"
        )
    found = cheapest(problem)
    if found is None:
        raise InfeasibleError(_as_far_as_it_goes(problem))
    return Placement(problem=problem, counts=found[0], shares=found[1])


def _as_far_as_it_goes(problem: Problem) -> str:
    counts, multiple = largest(problem, budget=problem.budget)
    mix = describe({kind.name: int(count) for kind, count in zip(problem.kinds, counts, strict=True)})
    cost = float(problem.prices @ counts)
    nearest = (
        f"the nearest that can be had is {multiple * problem.rate:.6g} requests/s, with {mix} at {cost:.6g} per hour"
    )
    unlimited = cheapest(replace(problem, budget=None, present=None)) if problem.budget is not None else None
    if unlimited is not None:
        least = float(problem.prices @ unlimited[0])
        return f"a budget of {problem.budget:g} per hour is too small: it takes {least:.6g}; {nearest}"
    there = describe({name: problem.stock[name] for name in sorted(problem.stock)})
    limits = f"the stock ({there})" + (
        f" and a budget of {problem.budget:g} per hour" if problem.budget is not None else ""
    )
    return f"{limits} cannot carry {problem.rate:.6g} requests/s; {nearest}"


def describe(mix: dict[str, int]) -> str:
    """A mix in words."""
    return " + ".join(f"{count} {name}" for name, count in mix.items() if count) or "no engine"
