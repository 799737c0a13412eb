"""Llumnix's experiments (OSDI'24) on its workloads: `python -m benchmarks.llumnix [--requests N] [--json OUT]`.

Sixteen A10 with LLaMA-7B, lengths by the authors' generator. Their times are not known, ours come from a cost model of
an engine that is somewhat faster; so the rates are those at which INFaaS++, their baseline, is as loaded here as it was
there: near the rate above which its queues grow without end. First Llumnix is set against INFaaS++, as in the paper,
then Coxswain's own policy against Llumnix, then priorities against the same run without them.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from rich.console import Console

from benchmarks.rows import Row, Section, as_json, as_table, write
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.policies.interface import Objectives
from coxswain_scheduler.policies.registry import create
from coxswain_scheduler.simulator.results import Outcome, Result, quantile
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.simulation import replay
from coxswain_scheduler.simulator.trace import Trace
from coxswain_simulate.traces import Options, load
from coxswain_simulate.traces.arrivals import Renewal

OURS, THEIRS, BASELINE = "coxswain", "llumnix", "infaas"
DATA = Path(__file__).parent / "data" / "llumnix_osdi24"
RATES: Mapping[str, float] = {"128_128": 50.0, "256_256": 9.0, "512_512": 3.4, "128_512": 4.6, "512_128": 22.0}
"""Requests per second by mean lengths of prompt and answer. The paper's: 32-38, 7.4-8, 2.6-3.2, 4.1-4.4, 10-22."""
PRIORITY_RATE, PRIORITY_VARIATIONS, HIGH = 56.0, (2.0, 4.0, 6.0, 8.0), 0.1
REQUESTS = 10_000
PAPER: Mapping[str, float] = {
    "mean end-to-end": 1.5,
    "P99 end-to-end": 1.6,
    "mean prefill": 7.7,
    "P99 prefill": 14.8,
    "P99 decode": 2.0,
}
"""How many times better than INFaaS++ Llumnix is, on the workload where it is most."""
PAPER_PREEMPTION = 0.296
"""What is left of the loss by preemption, in the mean of all workloads. Here: of the number of preemptions."""

Figures = dict[str, float]


def trace(
    lengths: str, *, rate: float, requests: int, variation: float = 1.0, high: float = 0.0, seed: int = 0
) -> Trace:
    """The first requests of a workload."""
    options = Options(arrivals=Renewal(rate, variation), high_priority=high, seed=seed)
    whole = load(DATA / f"lengths_{lengths}.csv.gz", "llumnix", options)
    return replace(whole, requests=whole.requests[:requests])


def setup() -> Setup:
    """Their cluster, with objectives so wide that nothing need be refused."""
    engine = EngineSpec(
        timing=profile("a10g-llama-2-7b").timing,
        accelerator="a10g",
        total_blocks=813,
        block_size=16,
        max_num_seqs=256,
        step_tokens=2048,
    )
    return Setup(
        engines=(engine,) * 16,
        objectives=Objectives(ttft=20.0, inter_token=0.2),
        link_bytes_per_second=8e9,
        kv_bytes_per_token=512 * 1024,
    )


def run(policy: str, requests: Trace, *, seed: int = 0) -> Result:
    """What comes of a workload under a policy."""
    return replay(requests, setup(), create(policy, seed=seed))


def figures(result: Result) -> Figures:
    """Of all requests, in seconds."""
    whole = result.values(lambda outcome: outcome.end_to_end)
    prefill = result.values(lambda outcome: outcome.ttft)
    return {
        "mean end-to-end": fmean(whole),
        "P99 end-to-end": quantile(whole, 0.99) or 0.0,
        "mean prefill": fmean(prefill),
        "P99 prefill": quantile(prefill, 0.99) or 0.0,
        "P99 decode": quantile(result.values(lambda outcome: outcome.inter_token), 0.99) or 0.0,
        "preemptions": float(result.preemptions),
        "refused": float(result.shed),
    }


def compared(requests: int, seed: int = 0) -> dict[str, dict[str, Figures]]:
    """Figures by workload and policy."""
    found: dict[str, dict[str, Figures]] = {}
    for lengths, rate in RATES.items():
        offered = trace(lengths, rate=rate, requests=requests, seed=seed)
        found[lengths] = {policy: figures(run(policy, offered, seed=seed)) for policy in (BASELINE, THEIRS, OURS)}
    return found


def reproduction(found: Mapping[str, Mapping[str, Figures]]) -> Section:
    """Llumnix's ratios over its baseline, beside the paper's."""
    rows = []
    for name, paper in PAPER.items():
        ratios = {lengths: each[BASELINE][name] / each[THEIRS][name] for lengths, each in found.items()}
        best = max(ratios, key=ratios.__getitem__)
        rows.append(Row(name=f"{name}, most, on {best}", value=ratios[best], unit="x", peer="paper", peer_value=paper))
    left = [each[THEIRS]["preemptions"] / max(1.0, each[BASELINE]["preemptions"]) for each in found.values()]
    rows.append(
        Row(name="preemptions left, mean", value=fmean(left), unit="", peer="paper", peer_value=PAPER_PREEMPTION)
    )
    return Section(
        title="Llumnix over INFaaS++", workload="Poisson; a ratio above one is in Llumnix's favour", rows=rows
    )


def ours(found: Mapping[str, Mapping[str, Figures]]) -> Section:
    """Our figures beside Llumnix's, which runs on the same requests."""
    rows = [
        Row(name=f"{lengths} {name}", value=each[OURS][name], unit=unit, peer=THEIRS, peer_value=each[THEIRS][name])
        for lengths, each in found.items()
        for name, unit in (*((name, "s") for name in PAPER), ("preemptions", ""), ("refused", ""))
    ]
    return Section(title="Coxswain beside Llumnix", workload="Poisson; objectives 20 s and 200 ms", rows=rows)


def priorities(policy: str, requests: int, seed: int = 0) -> Section:
    """How high priorities and the others fare beside a run of the same requests without priorities."""
    rows = []
    for variation in PRIORITY_VARIATIONS:
        offered = trace(
            "128_128", rate=PRIORITY_RATE, requests=requests, variation=variation, high=HIGH, seed=seed + int(variation)
        )
        flat = replace(offered, requests=tuple(replace(each, priority=0) for each in offered.requests))
        kinds = {"high": {each.id for each in offered.requests if each.priority}}
        kinds["others"] = {each.id for each in offered.requests} - kinds["high"]
        with_, without = run(policy, offered, seed=seed), run(policy, flat, seed=seed)
        for name, those in kinds.items():
            before, after = _mean(without.outcomes, those), _mean(with_.outcomes, those)
            peer = "priorities ignored"
            title = f"CV {variation:g}: {name}, mean end-to-end"
            rows.append(Row(name=title, value=after, unit="s", peer=peer, peer_value=before))
    return Section(title=f"Priorities under {policy}", workload=f"128-128 at {PRIORITY_RATE:g}/s, 10 % high", rows=rows)


def _mean(outcomes: Iterable[Outcome], those: Collection[int]) -> float:
    return fmean(one.end_to_end for one in outcomes if one.end_to_end is not None and one.id in those)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(prog="benchmarks.llumnix", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each workload")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args(arguments)
    console = Console()
    found = compared(options.requests, options.seed)
    sections = [reproduction(found), ours(found), priorities(OURS, options.requests, options.seed)]
    for section in sections:
        console.print(as_table(section))
    if options.json:
        write(options.json, as_json(sections))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
