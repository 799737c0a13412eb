"""The cost models against measurements: deployments on H100 and H200, and kernels on A100, H100 and L40S.

`python -m benchmarks.cost_models` writes `benchmarks/results/cost_models.md` and `.json`. With `--fit` it first finds
the constants of the serving softwares anew, and says whether the shipped ones are those.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.deployments import FILE, Deployment, deployments, predicted
from benchmarks.fit_software import TUNED_ON, fitted, tunes
from benchmarks.kernel_tables import KERNELS, Point
from benchmarks.rows import hardware, write
from coxswain_scheduler.costs.fitted import StepCost
from coxswain_scheduler.costs.hardware import ACCELERATORS
from coxswain_scheduler.costs.model_shape import SHAPES
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.roofline import Roofline
from coxswain_scheduler.costs.software import SOFTWARE
from coxswain_scheduler.costs.timing import Timing, Work

_DEPLOYMENTS = """\
All {count} rows of `{file}`.
Clients in a closed loop, ten requests each, all at once at the start; what loads the rows had beyond concurrency and
lengths is not in the data, but for Llama-3-70B's (InferenceMAX: lengths from 0.8 of the given ones). Errors are
|predicted / measured - 1|; ratio is the median of predicted / measured. Constants are tuned on one model's aggregated
H100 rows for each software ({tuned}), {half} rows together; the
others are held out, all of H200 and all disaggregated ones among them. For trtllm the halves were exchanged after a
first look: its Qwen3-32B is slower than its two Llamas would have it. The last column is the gap to the bound: measured
time over the physical floor of a decode step at the mean KV length."""
_MODELS = """\
Where it misses: vLLM's Llama-3-8B on H200 answers more prompts per second than the kernels would compute without any
overhead, as if from a prefix cache; SGLang's there has short TTFT beside long TPOT, as of loads that do not start
together; neither load is in the data. The disaggregated rows give a batch that may be a limit rather than a load: at
its batch, vLLM's would be faster than physics allows. TTFT hangs on how requests meet, TPOT much less."""
_KERNELS = """\
Held out: matrix products whose weights have either side at every second size of the table; batches of 2, 8, 32 and 128
prompts; every second KV length of decode attention; every second message size. Long: 20 us and more. Cached: measured
faster than memory or arithmetic allow, because a kernel timed over and over finds its operands in the cache (96 MB on
the L40S); the models take such a time to be at the roofline, and the first two error columns count those points.
Attained is the median share of the roofline of long points. H200 has no kernel tables: it gets the H100's shares of its
own roofline."""
_LEARNING = """\
Mean error on 300 steps of mixed work after so many steps were learnt. The engine learnt is itself one of our cost
models: this says how well a wrong prior is unlearnt, not how near it is to silicon."""
_PROFILES = """\
Steps of Llama-3-8B under vLLM in milliseconds, with the roofline in brackets. L4, A10G and CPU are a roofline and
assumed efficiencies: unvalidated, as is every mixture of experts. A100 and L40S stand on kernel measurements
only, H100 and H200 on deployments too."""
RESULTS = Path(__file__).parent / "results"
_STEPS = {"prefill of 4,096": Work(4096, 4096 * 4097 // 2), "decode of 1 at 2,048": Work(decodes=1, context=2048)}
_STEPS["decode of 64 at 2,048"] = Work(decodes=64, context=64 * 2048)
_STEPS["512 beside 64 at 2,048"] = Work(512, 512 * 513 // 2, 64, 64 * 2048)


class Errors(NamedTuple):
    """Of one figure: median and 90th percentile of |predicted / measured - 1|, and the median of the ratio."""

    median: float
    p90: float
    ratio: float

    @classmethod
    def of(cls, ratios: Iterable[float]) -> Errors:
        """From predicted / measured."""
        values = np.array(list(ratios))
        off = np.abs(values - 1.0)
        return cls(float(np.median(off)), float(np.quantile(off, 0.9)), float(np.median(values)))

    def cells(self) -> list[str]:
        """For a table."""
        return [f"{self.median:.1%}", f"{self.p90:.0%}", f"{self.ratio:.2f}"]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="find the softwares' constants anew (minutes)")
    fit = parser.parse_args().fit
    rows = deployments()
    tables = [_fits(rows)] if fit else []
    tables += [*_deployed(rows), _kernels(), _learning(), _profiles()]
    page = _page(tables, fit=fit)
    print(page)
    write(RESULTS / "cost_models.md", page)
    write(RESULTS / "cost_models.json", json.dumps([table._asdict() for table in tables], indent=1) + "\n")


class Table(NamedTuple):
    """A table, and what is to be known about it."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    raw: Sequence[dict[str, Any]] = ()


def _fits(rows: Sequence[Deployment]) -> Table:
    lines = []
    for name, shipped in SOFTWARE.items():
        found = fitted(name, rows)
        lines.append([name, repr(found), "the shipped ones" if found == shipped else f"not the shipped {shipped!r}"])
    return Table("Constants found", f"Tuned on {TUNED_ON}.", ("software", "found", "are"), lines)


def _deployed(rows: Sequence[Deployment]) -> Iterator[Table]:
    found = [(row, predicted(row, SOFTWARE[row.software])) for row in rows]
    by_engine: defaultdict[tuple[str, ...], list[tuple[float, float, float]]] = defaultdict(list)
    by_model: defaultdict[tuple[str, ...], list[tuple[float, float, float]]] = defaultdict(list)
    raw = []
    for row, guess in found:
        ratios = (guess.ttft / row.measured.ttft, guess.tpot / row.measured.tpot, row.measured.tpot / _floor(row))
        half = "tuned on" if tunes(row) else "held out"
        mode = "disaggregated" if row.prefill_workers else "aggregated"
        by_engine[row.accelerator, row.software, mode, half].append(ratios)
        by_model[row.accelerator, row.software, row.model, str(row.weight_bytes * 8)[:-2], mode, half].append(ratios)
        raw.append({"id": row.id, "predicted": guess._asdict(), "measured": row.measured._asdict(), "half": half})
    columns = ("rows", "TTFT median", "P90", "ratio", "TPOT median", "P90", "ratio", "measured TPOT / roofline")
    about = _DEPLOYMENTS.format(
        count=len(rows),
        half=sum(map(tunes, rows)),
        file=FILE.relative_to(FILE.parents[3]),
        tuned=", ".join(f"{name} on {model}" for name, model in TUNED_ON.items()),
    )
    yield Table(
        "Deployments by GPU and engine", about, ("GPU", "engine", "mode", "half", *columns), _lines(by_engine), raw
    )
    keys = ("GPU", "engine", "model", "bits", "mode", "half")
    yield Table("The same by model", _MODELS, (*keys, *columns), _lines(by_model))


def _floor(row: Deployment) -> float:
    """Seconds of the mean decode step at the roofline."""
    context = row.concurrency * (row.prompt + row.output // 2)
    return Roofline(row.shape, row.device, row.parts).seconds(Work(decodes=row.concurrency, context=context))


def _lines(groups: dict[tuple[str, ...], list[tuple[float, float, float]]]) -> list[list[str]]:
    lines = []
    for key, ratios in sorted(groups.items()):
        ttft, tpot = (Errors.of(ratio[place] for ratio in ratios) for place in (0, 1))
        gap = float(np.median([ratio[2] for ratio in ratios]))
        lines.append([*key, str(len(ratios)), *ttft.cells(), *tpot.cells(), f"{gap:.1f}"])
    return lines


def _kernels() -> Table:
    columns = ("GPU", "kernel", "points", "median", "P90", "long, not cached", "median", "P90", "cached", "attained")
    lines = []
    for name in ("h100", "a100", "l40s", "h200"):
        for kernel, points_of in KERNELS.items():
            if name != "h200" or kernel == "all-reduce":
                lines.append([name, kernel, *_point_cells(list(points_of(name)))])
    return Table("Kernels and collectives", _KERNELS, columns, lines)


def _point_cells(points: Sequence[Point]) -> list[str]:
    long = [point for point in points if point.long and not point.cached]
    cells = []
    for chosen in (points, long):
        errors = Errors.of(point.predicted / point.measured for point in chosen)
        cells += [str(len(chosen)), *errors.cells()[:2]]
    attained = float(np.median([point.floor / point.measured for point in long]))
    return [*cells, str(sum(point.cached for point in points)), f"{attained:.2f}"]


def _learning() -> Table:
    counts = (0, 64, 256, 1024)
    pairs = [
        ("", "h100-llama-3-8b"),
        ("h100-llama-3-8b-sglang", "h100-llama-3-8b"),
        ("h100-llama-3-8b", "l40s-llama-3-8b"),
    ]
    lines = []
    for prior, real in [*pairs, ("h100-llama-3-8b", "mocker")]:
        timing, cost = profile(real).timing, StepCost(prior=profile(prior).timing if prior else None)
        rng, errors, learnt = random.Random(1), [], 0
        for count in counts:
            for _ in range(count - learnt):
                work = _any_work(rng)
                cost.learn(work, timing.seconds(work))
            learnt = count
            errors.append(_mean_error(cost, timing))
        lines.append([prior or "none", real, *(f"{error:.1%}" for error in errors)])
    return Table("Learning from steps", _LEARNING, ("prior", "engine", *(f"after {count}" for count in counts)), lines)


def _any_work(rng: random.Random) -> Work:
    prompt, start, decodes = rng.choice([0, 0, 0, rng.randrange(1, 4096)]), rng.randrange(8192), rng.randrange(1, 128)
    return Work(prompt, prompt * start + prompt * (prompt + 1) // 2, decodes, decodes * rng.randrange(1, 4096))


def _mean_error(cost: Timing, real: Timing) -> float:
    works = [_any_work(random.Random(seed)) for seed in range(300)]
    return sum(abs(cost.seconds(work) / real.seconds(work) - 1) for work in works) / len(works)


def _profiles() -> Table:
    lines = []
    for name, device in ACCELERATORS.items():
        engine, floor = profile(f"{name}-llama-3-8b"), Roofline(SHAPES["llama-3-8b"], device)
        steps = [
            f"{engine.timing.seconds(work) * 1e3:.1f} ({floor.seconds(work) * 1e3:.1f})" for work in _STEPS.values()
        ]
        standing = "validated" if engine.validated else "unvalidated"
        lines.append([name, standing, *steps, f"{engine.total_blocks * engine.block_size:,}", f"{engine.price:.2f}"])
    return Table("Profiles", _PROFILES, ("GPU", "standing", *_STEPS, "KV tokens", "$/h"), lines)


def _page(tables: Iterable[Table], *, fit: bool) -> str:
    flag = " --fit" if fit else ""
    date = datetime.now(UTC).date().isoformat()
    lines = ["# Cost models against measurements", ""]
    lines += [f"Written by `python -m benchmarks.cost_models{flag}` on {date}, {hardware()}.", ""]
    for table in tables:
        lines += [f"## {table.title}", "", table.about, "", f"| {' | '.join(table.columns)} |"]
        lines += ["|" + "---|" * len(table.columns), *(f"| {' | '.join(row)} |" for row in table.rows), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
