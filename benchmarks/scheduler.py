"""The scheduler beside its peers and its bounds: `python -m benchmarks.scheduler [--quick] [--fresh]`.

Writes `benchmarks/results/scheduler.md`, its picture and its raw data; `--quick` writes a small one to `build/`. With
`--micro [--json OUT]` it only times dispatch and migration pairing, with `--tuning` it only asks whether our policy's
options are well chosen. Runs of unchanged code are kept in `build/bench-scheduler`: a job that was stopped goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import dispatching
from benchmarks.arena import page, plan, speed, tables, tuning
from benchmarks.arena.intervals import Mean
from benchmarks.arena.running import Runner
from benchmarks.arena.runs import DATA, PEER, Figures, Run, prefix_bounds
from benchmarks.dynamo_wheels import interpreter
from benchmarks.rows import Section, as_json, as_table, hardware, write

_ROOT = Path(__file__).parents[1]
_FILED = DATA / "peer_runs/dynamo_replay_1.6.1.jsonl"
_QUICK_CALLS = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for."""
    options = _options(arguments)
    console = Console()
    console.print(hardware(), highlight=False)
    if options.micro:
        section = dispatching.measure(calls=options.calls)
        console.print(as_table(section))
        if options.json:
            write(options.json, as_json([section]))
        return 0
    reasons: list[str] = []
    python = None if options.tuning or options.no_dynamo else interpreter(options.python, say=reasons.append)
    runner = Runner(console, python, fresh=options.fresh)
    if options.tuning:
        choices = _tuning(runner, seeds=(0, 1))
        console.print(tables.tuning(choices), *tables.tuned(choices), sep="\n", highlight=False, soft_wrap=True)
        return 0
    found = _compared(runner, reasons, options)
    stem = _ROOT / ("build/bench-scheduler/quick" if options.quick else "benchmarks/results/scheduler")
    files = page.write(found, stem)
    for verdict in found.verdicts:
        console.print(f"{'holds' if verdict.holds else 'MISSED'}: {verdict.claim}: {verdict.measured}", highlight=False)
    console.print("\n".join(str(file.relative_to(_ROOT)) for file in files), highlight=False)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.scheduler", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--micro", action="store_true", help="only time dispatch and migration pairing")
    parser.add_argument("--calls", type=int, default=dispatching.CALLS, help="dispatches for each number of workers")
    parser.add_argument("--json", type=Path, help="where --micro writes its rows")
    parser.add_argument("--tuning", action="store_true", help="only try other options of our policy on other traces")
    parser.add_argument("--quick", action="store_true", help="one seed and few rows")
    parser.add_argument("--brief", action="store_true", help="fewer speed-ups and seeds")
    parser.add_argument("--fresh", action="store_true", help="forget earlier runs of the same code")
    parser.add_argument("--python", type=Path, help="an interpreter that can import Dynamo's wheels")
    parser.add_argument("--no-dynamo", action="store_true", help="leave Dynamo's own rows out")
    return parser.parse_args(arguments)


def _compared(runner: Runner, reasons: Sequence[str], options: argparse.Namespace) -> page.Findings:
    """The whole comparison."""
    quick, peer = options.quick, runner.python is not None
    scope = (plan.quick if quick else plan.brief if options.brief else plan.full)(peer=peer)
    found = page.Findings(
        command=_command(options),
        seeds=scope.seeds,
        peer="" if peer else (reasons[-1] if reasons else "not asked for").removeprefix("no rows of Dynamo: "),
    )
    filed = filed_rows()
    found.filed = best_filed(filed)
    robins = [row for row in filed if row["router"] == "round_robin"]
    runner.run("fidelity", plan.fidelity(scope, robins))
    found.fidelity = _pairs(runner, scope, robins)
    runner.run("best splits", plan.sweep(scope))
    rows = plan.rows(scope, runner.done)
    runner.run("policies", sorted((run for runs in rows.values() for run in runs), key=_first_seeds_first))
    found.rows = {key: runner.figures(runs) for key, runs in rows.items()}
    found.prefix_bounds = _prefix_bounds(scope.seeds)
    found.tuning = () if quick or options.brief else _tuning(runner, seeds=(0, 1))
    found.left_out = [f"{json.loads(key)['policy']}: {reason}" for key, reason in runner.failed.items()]
    with runner.console.status("dispatch and pairing"):
        found.micro = _micro(options)
    with runner.console.status("simulator speed"):
        for known in speed.measure(
            runner.python, runner.folder, repeats=1 if quick or options.brief else speed.REPEATS
        ):
            found.speed = known
    return found


def _command(options: argparse.Namespace) -> str:
    flags = [f" --{name}" for name in ("quick", "brief") if getattr(options, name)]
    return f"python -m benchmarks.scheduler{flags[0]}" if flags else "make bench-scheduler"


def _micro(options: argparse.Namespace) -> Section:
    if options.quick:
        return dispatching.measure(calls=_QUICK_CALLS, workers=dispatching.WORKERS[-1:])
    return dispatching.measure(calls=options.calls)


def _first_seeds_first(run: Run) -> int:
    return run.seed or 0


def filed_rows() -> list[Figures]:
    """Dynamo's rows of eight engines with default steps, as they were filed, in our terms."""
    rows = map(json.loads, _FILED.read_text().splitlines())
    return [
        {
            "router": row["router"],
            "prefill": row.get("num_prefill_workers", 0),
            "speedup": row["speedup"],
            "policy": f"{PEER} {row['router']} (filed)",
            "requests": row["requests"],
            "good": row["goodput_requests"],
            "ttft_s": {"p50": row["ttft_ms_p50"] / 1e3, "p99": row["ttft_ms_p99"] / 1e3},
            "prefix_reuse": row["prefix_reused"],
        }
        for row in rows
        if row.get("num_workers", 8) == 8 and "max_num_batched_tokens" not in row
    ]


def best_filed(filed: Sequence[Figures]) -> dict[float, int]:
    """The most good of any filed row, by speed-up."""
    best: dict[float, int] = {}
    for row in filed:
        best[row["speedup"]] = max(best.get(row["speedup"], 0), row["good"])
    return best


def _pairs(runner: Runner, scope: plan.Scope, robins: Sequence[Figures]) -> list[tuple[Run, Figures, Figures]]:
    """Ours beside Dynamo's of this job, or the filed one."""
    pairs = []
    for row in robins:
        runs = plan.fidelity(scope, [row])
        known = runner.figures(runs)
        if known and known[0]["policy"] == runs[0].policy:
            pairs.append((runs[0], known[0], known[1] if len(known) > 1 else row))
    return pairs


def _prefix_bounds(seeds: Sequence[int]) -> Mapping[str, Mean]:
    several = [prefix_bounds(seed) for seed in seeds]
    return {name: Mean.of([one[name] for one in several]) for name in several[0]}


def _tuning(runner: Runner, *, seeds: Sequence[int]) -> Sequence[tuning.Choice]:
    return tuning.choices(runner.run("options", tuning.plan(seeds)), seeds)


if __name__ == "__main__":
    raise SystemExit(main())
