"""Why a placement is as it is, in lines: rendered when asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coxswain_scheduler.placement.placement import Placement, describe
from coxswain_scheduler.placement.problem import Counts
from coxswain_scheduler.placement.search import carries, largest

_SHOWN = 3


def reasons(placement: Placement) -> list[str]:
    """A line for the whole, one for each kind of engine that is in the mix, and one for each that is not."""
    counts = placement.counts
    lines = [_whole(placement)]
    lines += [_chosen(placement, int(e)) for e in np.flatnonzero(counts)]
    lines += [_left_out(placement, int(e)) for e in np.flatnonzero(counts == 0)]
    return lines + list(_changes(placement))


def _whole(placement: Placement) -> str:
    problem = placement.problem
    head = f"{describe(placement.mix)} for {placement.cost:.6g} per hour"
    if not placement.counts.any():
        return f"{head}: nothing is asked for"
    counts, multiple = largest(problem, budget=placement.cost - 1e-6)
    mix = describe({kind.name: int(count) for kind, count in zip(problem.kinds, counts, strict=True)})
    price = f"{mix} at {float(problem.prices @ counts):.6g}"
    if multiple < 1 - 1e-6:
        return f"{head}: no cheaper mix carries more than {multiple:.2%} of the rate ({price})"
    if problem.slice_factor is not None:
        return f"{head}: cheaper ones, such as {price}, carry it only if buckets are not kept in parts whole"
    return f"{head}: a cheaper one, {price}, takes more changes than it saves"


def _chosen(placement: Placement, kind: int) -> str:
    counts, problem = placement.counts, placement.problem
    fewer = counts.copy()
    fewer[kind] -= 1
    load = placement.used[kind] / counts[kind]
    rest = _rest(placement, fewer)
    serves = _served(placement, kind)
    return (
        f"{counts[kind]} {problem.kinds[kind].name} at {problem.kinds[kind].price:g}: {load:.1%} loaded"
        f" with {serves}; with one fewer the mix carries {rest}"
    )


def _rest(placement: Placement, counts: Counts) -> str:
    multiple = carries(placement.problem, counts)[0]
    if multiple < 1 - 1e-6:
        return f"{multiple:.2%} of the rate"
    return "the rate in other shares, but not in whole parts" if placement.problem.slice_factor else "the rate still"


def _served(placement: Placement, kind: int) -> str:
    """The buckets that load a kind most."""
    shares = placement.shares[kind]
    loads = np.where(shares > 1e-9, shares, 0.0) * np.where(shares > 1e-9, placement.problem.loads[kind], 0.0)
    order = [int(b) for b in np.argsort(-loads) if loads[b] > 0]
    shown = [f"{shares[b]:.0%} of {placement.problem.buckets[b]}" for b in order[:_SHOWN]]
    more = f" and parts of {len(order) - _SHOWN} more sizes" if len(order) > _SHOWN else ""
    return ", ".join(shown) + more if shown else "nothing (kept: stopping it costs more)"


def _left_out(placement: Placement, kind: int) -> str:
    problem = placement.problem
    mine, best = problem.prices[kind] * problem.loads[kind], problem.least(problem.prices)
    asked = np.flatnonzero((best > 0) & np.isfinite(mine))
    name = problem.kinds[kind].name
    if not len(asked):
        return f"no {name}: it serves no size of request as asked"
    if problem.kinds[kind].role != "Serve":
        return f"no {name}: with it for its half of the work no mix is cheaper"
    ratios = mine[asked] / best[asked]
    at_best = f"{ratios.min():.2f} times the least at best ({problem.buckets[asked[int(np.argmin(ratios))]]})"
    if ratios.min() < 1.005:
        return f"no {name}: per request it costs {at_best}, but what it would leave idle costs more"
    return f"no {name}: per request it costs {at_best}"


def _changes(placement: Placement) -> Iterator[str]:
    problem = placement.problem
    if problem.present is None:
        return
    for (accelerator, size), machine in problem.machines.items():
        there, wanted = problem.running(machine), int(placement.counts[machine].sum())
        name = accelerator + (f" ×{size}" if size > 1 else "")
        if wanted > there:
            yield f"start {wanted - there} {name}: {there} run now"
        elif wanted < there:
            yield f"stop {there - wanted} {name}: {there} run now"
        for e in machine:
            roles = int(placement.counts[e]), problem.present.engines.get(problem.kinds[e].name, 0)
            if roles[0] != roles[1] and len(machine) > 1:
                yield f"{problem.kinds[e].name}: {roles[0]} instead of {roles[1]}"
