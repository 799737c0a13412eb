"""Llumnix's experiments (OSDI'24) on its workloads: `python -m benchmarks.llumnix [--requests N] [--write]`.

Sixteen A10 with LLaMA-7B, lengths by the authors' generator, and for each workload the shares of its highest rate that
their artifact runs. Their times are not known, ours come from a cost model of an engine that is somewhat faster; so the
highest rates are those at which INFaaS++, their baseline, is as loaded here as it was there: near the rate above which
its queues grow without end. First Llumnix is set against INFaaS++, as in the paper, then Coxswain's own policy against
Llumnix, then priorities against the same run without them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.llumnix_page import page
from benchmarks.llumnix_runs import Figures, Run, runs, simulate
from benchmarks.rows import write

PAGE = Path(__file__).parent / "results" / "llumnix.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.llumnix", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="of each workload")
    parser.add_argument("--seeds", type=int, default=3, help="of Coxswain beside Llumnix")
    parser.add_argument("--every", type=int, default=1, help="of the artifact's rates, each such")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for what runs gave, from which a later call goes on")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} among the results")
    options = parser.parse_args(arguments)
    seeds = range(options.seeds)
    wanted = runs(options.requests, seeds, options.every)
    with ProcessPoolExecutor(options.processes) as pool:
        figures = pool.map(partial(_figures, folder=options.keep), wanted)
        found = dict(zip(wanted, _told(figures, len(wanted)), strict=True))
    flags = f" --requests {options.requests} --seeds {options.seeds} --every {options.every}"
    text = page(found, f"python -m benchmarks.llumnix{flags}", seeds)
    print(text)
    if options.write:
        write(PAGE, text)
    return 0


def _figures(run: Run, folder: Path | None) -> Figures:
    """What a run gives, or gave."""
    if folder is None:
        return simulate(run)
    kept = folder / f"{'_'.join(map(str, run))}.json"
    if not kept.exists():
        write(kept, json.dumps(simulate(run)))
    found: Figures = json.loads(kept.read_text(encoding="utf-8"))
    return found


def _told(results: Iterable[Figures], count: int) -> Iterable[Figures]:
    for place, each in enumerate(results, 1):
        print(f"{place} of {count}", flush=True)
        yield each


if __name__ == "__main__":
    raise SystemExit(main())
