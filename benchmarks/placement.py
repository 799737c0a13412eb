"""Placement beside Mélange's solver: cost, bound and CPU seconds for every case. `python -m benchmarks.placement`.

Writes `benchmarks/results/placement.md` and `.json`. Times are thread CPU time of building and solving, warm, the
median of five; reading files and explaining are left out. With `--cbc`, Mélange's own formulation (a variable for each
part and kind) runs on PuLP's CBC beside it, for the cases that took it less than half a second; it wants `pip install
pulp`, and its CPU time is that of the child process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.rows import hardware
from coxswain_scheduler.placement.placement import Placement, describe, place
from coxswain_scheduler.placement.problem import Problem
from coxswain_simulate.placements import Flags, read

_HERE = Path(__file__).parent
_INPUTS = _HERE / "data/peer_runs/melange_solver_inputs.json"
_PUBLISHED = _HERE / "data/peer_runs/melange_solver_results.jsonl"
_EXAMPLE = _HERE / "data/melange/melange_example_input.json"
_RESULTS = _HERE / "results/placement"
_OBJECTIVES, _RATES, _PARTS = (120, 40), (1, 8, 32, 128), (1, 4, 8, None)
_REPEATS = 5
_QUICK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case. `parts` None: any shares."""

    case: str
    parts: int | None
    cost: float
    published: float | None
    mix: str
    bound: float
    gap: float
    cpu_seconds: float
    melange_cpu_seconds: float | None
    """As published with the results."""
    cbc_cpu_seconds: float | None = None
    """In this run."""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cbc", action="store_true", help="run Mélange's formulation on CBC beside it")
    args = parser.parse_args()
    published = _published()
    place(_problem(120, 1, 1))  # warm
    rows = [
        _row(_problem(slo, rate, parts), f"{slo} ms, {rate}/s", published.get((slo, rate, parts)), cbc=args.cbc)
        for slo in _OBJECTIVES
        for rate in _RATES
        for parts in _PARTS
    ]
    example = json.loads((_HERE / "data/melange/melange_example_expected_output.json").read_text())
    for parts in (1, 0):
        known = {"optimal_cost_per_h": example["cost"]} if parts else None
        rows.append(_row(read(_EXAMPLE, Flags(slice_factor=parts)).problem, "Mélange's example", known, cbc=False))
    page = _page(rows)
    _RESULTS.with_suffix(".md").write_text(page)
    _RESULTS.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(page)


def _problem(slo: int, rate: int, parts: int | None) -> Problem:
    return read(_INPUTS, Flags(rate=rate, profile=f"{slo}ms", slice_factor=parts)).problem


def _published() -> dict[tuple[int, int, int | None], dict[str, Any]]:
    found = map(json.loads, _PUBLISHED.read_text().splitlines())
    return {(round(row["tpot_slo_s"] * 1000), row["rate_rps"], row["slice_factor"]): row for row in found}


def _row(problem: Problem, case: str, published: dict[str, Any] | None, *, cbc: bool) -> Row:
    known = published or {}
    quick = problem.slice_factor is not None and known.get("melange_cbc_cpu_s", 1.0) < _QUICK_SECONDS
    times, placement = [], None
    peer: list[float] = []
    for _ in range(_REPEATS):
        placement, seconds = _timed(problem)
        times.append(seconds)
        if cbc and quick:
            peer.append(_cbc_seconds(problem, placement.cost))
    assert placement is not None
    return Row(
        case=case,
        parts=problem.slice_factor,
        cost=placement.cost,
        published=known.get("optimal_cost_per_h"),
        mix=describe(placement.mix),
        bound=placement.bound,
        gap=placement.gap,
        cpu_seconds=statistics.median(times),
        melange_cpu_seconds=known.get("melange_cbc_cpu_s"),
        cbc_cpu_seconds=statistics.median(peer) if peer else None,
    )


def _timed(problem: Problem) -> tuple[Placement, float]:
    """Build and solve: the problem is made anew, so that nothing of it is kept."""
    began = time.thread_time()
    fresh = Problem(buckets=problem.buckets, kinds=problem.kinds, slice_factor=problem.slice_factor)
    placement = place(fresh)
    return placement, time.thread_time() - began


def _cbc_seconds(problem: Problem, cost: float) -> float:
    """Mélange's formulation on CBC; CPU seconds of this process and of CBC's."""
    import pulp  # type: ignore[import-not-found, unused-ignore]

    began, child = time.thread_time(), _children()
    parts, kinds = problem.slice_factor or 1, range(len(problem.kinds))
    loads = problem.loads / parts
    slices = [b for b, bucket in enumerate(problem.buckets) if bucket.rate > 0 for _ in range(parts)]
    program = pulp.LpProblem("melange", pulp.LpMinimize)
    counts = [pulp.LpVariable(f"y{j}", 0, cat="Integer") for j in kinds]
    able = [(i, j) for i, b in enumerate(slices) for j in kinds if loads[j, b] < float("inf")]
    whole = {key: pulp.LpVariable(f"x{key[0]}_{key[1]}", cat="Binary") for key in able}
    program += pulp.lpSum(kind.price * count for kind, count in zip(problem.kinds, counts, strict=True))
    for i in range(len(slices)):
        program += pulp.lpSum(whole[i, j] for j in kinds if (i, j) in whole) == 1
    for j in kinds:
        program += pulp.lpSum(loads[j, b] * whole[i, j] for i, b in enumerate(slices) if (i, j) in whole) <= counts[j]
    program.solve(pulp.PULP_CBC_CMD(msg=False))
    seconds = time.thread_time() - began + _children() - child
    found = pulp.value(program.objective)
    if abs(found - cost) > 1e-6:
        raise SystemExit(f"CBC finds {found}, we find {cost}")
    return seconds


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _page(rows: list[Row]) -> str:
    worst = {
        name: max(row.cpu_seconds for row in rows if (row.parts is None) == (name == "any shares"))
        for name in ("in parts", "any shares")
    }
    compared = [row for row in rows if row.published is not None]
    unequal = [row for row in compared if abs(row.cost - (row.published or 0)) > 1e-6]
    head = [
        "# Placement beside Mélange's solver",
        "",
        f"`python -m benchmarks.placement`, {datetime.now(UTC):%Y-%m-%d}, {hardware()}.",
        "",
        f"Cost equals the published optimum in {len(compared) - len(unequal)} of {len(compared)} cases. Worst CPU"
        f" seconds, build and solve, warm, median of {_REPEATS}: {worst['in parts']:.3f} in parts,"
        f" {worst['any shares']:.3f} with any shares. Every answer is proved optimal for its rule; the gap"
        " is to the bound of divisible engines (`Σ_b w_b·min_j c_j/T_jb`). Mélange's CPU seconds are those"
        " published with the results (`benchmarks/data/peer_runs`), not of this run; CBC's, where shown, are of this"
        " run, alternating with ours.",
        "",
        "| case | parts | cost, $/h | published | mix | bound | gap | CPU-s | Mélange CPU-s | CBC CPU-s, this run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_line, rows)]) + "\n"


def _line(row: Row) -> str:
    cells = [
        row.case,
        row.parts or "any shares",
        f"{row.cost:.3f}",
        _cell(row.published),
        row.mix,
        f"{row.bound:.3f}",
        f"{row.gap:.2%}",
        f"{row.cpu_seconds:.3f}",
        _cell(row.melange_cpu_seconds),
        _cell(row.cbc_cpu_seconds),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
