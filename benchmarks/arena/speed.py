"""How many requests a CPU-second simulates, ours and Dynamo's by turns on the same machine, in one process each."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arena.plan import OURS
from benchmarks.arena.runs import PEER, Run, execute

SPEEDUP = 6.0
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Requests per CPU-second, in the order in which they were measured."""

    policy: str
    measured: Sequence[float]

    @property
    def median(self) -> float:
        """The figure that is claimed."""
        return statistics.median(self.measured)


def plan(*, peer: bool) -> list[Run]:
    """Ours by default and without any thought, Dynamo's whole and split."""
    theirs = [f"{PEER} kv_router 5P3D", f"{PEER} kv_router 8", f"{PEER} round_robin 8"] if peer else []
    return [Run(policy=policy, speedup=SPEEDUP, seed=0) for policy in (OURS, "round-robin", *theirs)]


def measure(python: Path | None, folder: Path, *, repeats: int = REPEATS) -> Iterator[Mapping[str, Speed]]:
    """After every round, what is known so far, by policy. Thread CPU time of the replay; loading is excluded."""
    runs = plan(peer=python is not None)
    taken: dict[str, list[float]] = {run.policy: [] for run in runs}
    for _ in range(repeats):
        for run in runs:
            figures = execute(run, python, folder)
            taken[run.policy].append(figures["requests"] / figures["cpu_s"])
        yield {policy: Speed(policy=policy, measured=tuple(rates)) for policy, rates in taken.items()}
