"""Whether the options of our policy are well chosen, asked of traces that the comparison does not show.

One option at a time around the defaults, on the first 4,000 requests of Azure's conversation trace of 2023 (lengths
and arrivals; no prefixes) and on 4,000 of `turns`, each at 0.75 and 0.9 of the largest speed-up that the fluid work
bound allows, on two seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.arena.plan import OURS
from benchmarks.arena.runs import ENGINES, Figures, Run, possible, setup_of, trace_of
from coxswain_scheduler.policies.registry import POLICIES, defaults
from coxswain_scheduler.simulator.bounds import fluid_work, infinite_cache

WORKLOADS = ("azure", "turns")
LOADS = (0.75, 0.9)
TRIED: Mapping[str, Sequence[float]] = {
    "patience": (0.0, 0.125, 0.25, 0.5, 1.0),
    "fill": (1024, 2048, 4096, 8192),
    "look": (4, 8, 12, 24),
    "reserve": (0.0, 0.03, 0.06, 0.12),
}
NEAR = 0.01
"""Share of the best by which a default may be worse."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A value of an option, and what share of the feasible requests was good with it, by workload and load."""

    option: str
    value: float
    default: bool
    shares: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Of all workloads and loads."""
        return sum(self.shares.values()) / len(self.shares)


def plan(seeds: Sequence[int]) -> list[Run]:
    """Every value on every workload."""
    policies = dict.fromkeys(policy for _, _, policy in _tried())
    return [run for policy in policies for run in _runs(policy, seeds)]


def choices(done: Mapping[str, Figures], seeds: Sequence[int]) -> list[Choice]:
    """What came of them."""
    known = defaults(POLICIES[OURS])
    return [
        Choice(
            option=option,
            value=value,
            default=value == known[option],
            shares={
                f"{workload} {load:g}": _share(done, _runs(policy, seeds, [workload], [load]))
                for workload in WORKLOADS
                for load in LOADS
            },
        )
        for option, value, policy in _tried()
    ]


def worst(found: Iterable[Choice]) -> dict[str, tuple[float, Choice]]:
    """For each option, how far its default is below the best value, as a share of that, and the best."""
    by_option: dict[str, list[Choice]] = {}
    for choice in found:
        by_option.setdefault(choice.option, []).append(choice)
    answers = {}
    for option, several in by_option.items():
        best = max(several, key=lambda choice: choice.mean)
        default = next(choice for choice in several if choice.default)
        answers[option] = (1 - default.mean / best.mean, best)
    return answers


@lru_cache
def speedup(workload: str, load: float) -> float:
    """The speed-up at which the fluid work of the feasible requests is that share of the engines' time."""
    trace, setup = trace_of(workload, 0), setup_of(Run(policy="", speedup=1.0))
    cached = infinite_cache(trace, block_size=setup.engines[0].block_size)
    work = fluid_work(trace, setup.engines[0], cached=cached, chosen=possible(workload, 0))
    return round(load * work.max_speedup(engines=ENGINES, span_seconds=trace.seconds), 2)


def _tried() -> Iterator[tuple[str, float, str]]:
    """Option, value, and the policy that has it; the default's name is the policy's own."""
    known = defaults(POLICIES[OURS])
    for option, values in TRIED.items():
        for value in sorted({*values, known[option]}):
            yield option, value, OURS if value == known[option] else f"{OURS}:{option}={value:g}"


def _runs(
    policy: str, seeds: Sequence[int], workloads: Sequence[str] = WORKLOADS, loads: Sequence[float] = LOADS
) -> list[Run]:
    return [
        Run(policy=policy, speedup=speedup(workload, load), seed=seed, workload=workload)
        for workload in workloads
        for load in loads
        for seed in seeds
    ]


def _share(done: Mapping[str, Figures], runs: Sequence[Run]) -> float:
    figures = [done[run.key] for run in runs]
    return float(sum(one["good"] for one in figures) / sum(one["feasible"] for one in figures))
