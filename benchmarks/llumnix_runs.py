"""Llumnix's experiments as simulations: its cluster, its workloads and rates, and what is measured of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from benchmarks.preemption import Watched
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.policies.registry import create
from coxswain_scheduler.simulator.results import Result, quantile
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.simulation import replay
from coxswain_scheduler.simulator.trace import Trace
from coxswain_simulate.traces import Options, load
from coxswain_simulate.traces.arrivals import Renewal

OURS, THEIRS = "coxswain", "llumnix:reports=true"
BASELINE, DESCRIBED = "llumnix:migrate=false,reports=true", "infaas:reports=true"
"""INFaaS++ as Llumnix's artifact runs it (its `load` dispatch without migration), and as its paper describes it."""
INFORMED = "llumnix"
"""Llumnix, had it known of what it dispatches at once and not from reports."""
DATA = Path(__file__).parent / "data" / "llumnix_osdi24"
HIGHEST: Mapping[str, float] = {"128_128": 50.0, "256_256": 9.0, "512_512": 3.4, "128_512": 4.6, "512_128": 22.0}
"""Requests per second by mean lengths of prompt and answer."""
RATES: Mapping[str, Sequence[float]] = {
    "128_128": (32, 33, 34, 35, 36, 37, 38),
    "256_256": (7.4, 7.5, 7.6, 7.7, 7.8, 7.9, 8.0),
    "512_512": (2.6, 2.7, 2.8, 2.9, 3.0, 3.1, 3.2),
    "128_512": (4.10, 4.15, 4.20, 4.25, 4.30, 4.35, 4.40),
    "512_128": (10, 12, 14, 16, 18, 20, 22),
}
"""The artifact's, of which the shares of the last are taken."""
THRESHOLDS: Mapping[str, int] = {"256_256": 10, "128_512": 10}
"""Steps below which the artifact migrates, where they are not 3."""
PRIORITY_RATES, PRIORITY_VARIATIONS, HIGH = (44.0, 56.0, 60.0, 66.0), (2.0, 4.0, 6.0, 8.0), 0.1
Figures = dict[str, float]


class Run(NamedTuple):
    """One simulation."""

    policy: str
    lengths: str
    rate: float
    seed: int
    requests: int
    variation: float = 1.0
    high: float = 0.0
    ignored: bool = False
    """Whether priorities are: the high ones are still told apart in the figures."""


def trace(run: Run) -> Trace:
    """The first requests of its workload."""
    options = Options(arrivals=Renewal(run.rate, run.variation), high_priority=run.high, seed=run.seed)
    whole = load(DATA / f"lengths_{run.lengths}.csv.gz", "llumnix", options)
    return replace(whole, requests=whole.requests[: run.requests])


def setup() -> Setup:
    """Their cluster, with a TTFT objective so wide that nothing need be refused; its steps hold 12,800 tokens."""
    engine = EngineSpec(
        timing=profile("a10g-llama-2-7b").timing,
        accelerator="a10g",
        total_blocks=813,
        block_size=16,
        max_num_seqs=256,
        step_tokens=12800,
    )
    return Setup(
        engines=(engine,) * 16,
        objectives=Objectives(ttft=60.0, inter_token=0.2),
        link_bytes_per_second=8e9,
        kv_bytes_per_token=512 * 1024,
    )


def simulate(run: Run) -> Figures:
    """What comes of it."""
    offered = trace(run)
    high = {each.id for each in offered.requests if each.priority}
    if run.ignored:
        offered = replace(offered, requests=tuple(replace(each, priority=0) for each in offered.requests))
    policy = Watched(create(_spelt(run), seed=run.seed))
    result = replay(offered, setup(), policy)
    found = figures(result)
    found["preemption loss"] = policy.loss_seconds / len(offered.requests)
    for name, those in (("high", high), ("others", {each.id for each in offered.requests} - high)):
        answered = [one for one in result.outcomes if one.id in those and one.end_to_end is not None]
        if answered:
            found[name] = fmean(one.end_to_end or 0.0 for one in answered)
            found[f"{name} alone"] = fmean(alone_seconds(one.prompt_tokens, one.output_tokens) for one in answered)
    return found


def _spelt(run: Run) -> str:
    """Its policy with all options."""
    if run.policy not in (THEIRS, INFORMED):
        return run.policy
    return f"{run.policy}{',' if ':' in run.policy else ':'}threshold={THRESHOLDS.get(run.lengths, 3)}"


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


@cache
def alone_seconds(prompt: int, output: int) -> float:
    """What a request would take on an engine of its own."""
    timing = profile("a10g-llama-2-7b").timing
    prefill = timing.seconds(Work(prompt, prompt * (prompt + 1) // 2))
    return prefill + (timing.decode_seconds(1, prompt + 1, output - 1) if output > 1 else 0.0)


def runs(requests: int, seeds: Sequence[int], every: int) -> list[Run]:
    """All that are wanted, the long ones first."""
    wanted: dict[Run, None] = {}
    for policy, rate, variation in product((OURS, THEIRS), PRIORITY_RATES, PRIORITY_VARIATIONS):
        high = Run(policy, "128_128", rate, int(variation), requests, variation, HIGH)
        wanted |= {high: None, high._replace(ignored=True): None}
    for lengths, highest in HIGHEST.items():
        compared = (OURS, THEIRS, INFORMED)
        wanted |= {Run(policy, lengths, highest, seed, requests): None for policy in compared for seed in seeds}
        shares = [rate / RATES[lengths][-1] for rate in RATES[lengths][::-every]]
        for policy in (THEIRS, BASELINE, DESCRIBED):
            wanted |= {Run(policy, lengths, highest * share, seeds[0], requests): None for share in shares}
    return list(wanted)
