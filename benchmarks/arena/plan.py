"""What the comparison runs: which policies, at which speed-ups, on which seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.arena.runs import LINK_GB_S, PEER, Figures, Run

OURS = "coxswain"
SPLIT = "{prefill}"
"""In the name of a policy: the split that did best is put there."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """How much is run."""

    speedups: Sequence[float]
    linked: Sequence[float]
    seeds: Sequence[int]
    policies: Sequence[str]
    linked_policies: Sequence[str]
    splits: Sequence[int]
    """Engines that prefill, out of eight, in a sweep."""
    peer: bool
    """Whether Dynamo can run."""
    baseline_seeds: Sequence[int] = ()
    """Of the baselines in the main table; none: the same."""
    robins: Sequence[tuple[float, int]] | None = None
    """Speed-ups and splits of the filed round robin to compare with; None for all."""

    @property
    def every(self) -> Sequence[str]:
        """The main table's policies."""
        return [*self.policies, *(PEERS if self.peer else ())]

    @property
    def every_linked(self) -> Sequence[str]:
        """The second table's."""
        return [*self.linked_policies, *(PEERS if self.peer else ())]


PEERS = (f"{PEER} kv_router 8", f"{PEER} kv_router {SPLIT}")
_BASELINES = (
    "round-robin",
    "least-requests",
    "power-of-two",
    "sglang-cache-aware",
    "dynamo-kv",
    f"dynamo-kv:prefill={SPLIT}",
    f"mooncake:prefill={SPLIT}",
    "llumnix",
    f"splitwise:prefill={SPLIT}",
    "distserve",
    f"static:prefill={SPLIT}",
    "past-future",
    "hpa:maximum=8",
)
_LINKED = (f"static:prefill={SPLIT}", f"mooncake:prefill={SPLIT}", f"dynamo-kv:prefill={SPLIT}", "llumnix")


def full(*, peer: bool) -> Scope:
    """What the page shows."""
    return Scope(
        speedups=(1, 2, 3, 4, 5, 5.5, 6, 7),
        linked=(4, 6, 7),
        seeds=(0, 1, 2, 3, 4),
        policies=(OURS, *_BASELINES),
        linked_policies=(OURS, "round-robin", *_LINKED),
        splits=(4, 5, 6),
        peer=peer,
    )


def quick(*, peer: bool) -> Scope:
    """Every part of it once, for a look at whether it works."""
    return Scope(
        speedups=(6,),
        linked=(6,),
        seeds=(0,),
        policies=(OURS, "round-robin", f"static:prefill={SPLIT}"),
        linked_policies=(OURS,),
        splits=(5,),
        peer=peer,
        robins=((6.0, 0),),
    )


def brief(*, peer: bool) -> Scope:
    """The page in a fifth of the time: fewer speed-ups, splits and seeds, one of them for the baselines."""
    return Scope(
        speedups=(1, 6, 7),
        linked=(6,),
        seeds=(0, 1, 2),
        policies=(OURS, *_BASELINES),
        linked_policies=(OURS, _LINKED[1]),
        splits=(4, 5),
        peer=peer,
        baseline_seeds=(0,),
        robins=tuple((speedup, split) for speedup in (1.0, 4.0, 6.0, 7.0) for split in (0, 5)),
    )


def fidelity(scope: Scope, filed: Iterable[Figures]) -> list[Run]:
    """Our round robin wherever Dynamo's is filed, and Dynamo's own again where it runs."""
    runs = []
    for row in filed:
        speedup, split = row["speedup"], row["prefill"]
        if scope.robins is None or (speedup, split) in scope.robins:
            policy = f"round-robin:prefill={split}" if split else "round-robin"
            runs.append(Run(policy=policy, speedup=speedup, mocker=True))
            if scope.peer:
                runs.append(Run(policy=with_split(f"{PEER} round_robin {SPLIT}", split), speedup=speedup))
    return runs


def sweep(scope: Scope) -> list[Run]:
    """Each split of each policy that is given one, on the first seed."""
    return [
        run
        for policy, speedup, link in _cells(scope)
        if SPLIT in policy
        for run in _splits(scope, policy, speedup, link)
    ]


def rows(scope: Scope, done: Mapping[str, Figures]) -> dict[tuple[str, float, float | None], list[Run]]:
    """The runs behind each row, one for each seed, given the `sweep`'s figures by the runs' keys."""
    found = {}
    for policy, speedup, link in _cells(scope):
        chosen = policy
        if SPLIT in policy:
            tried = _splits(scope, policy, speedup, link)
            chosen = max(tried, key=lambda run: done[run.key]["good"] if run.key in done else -1).policy
        found[policy, speedup, link] = [
            Run(policy=chosen, speedup=speedup, seed=seed, link_gb_s=link) for seed in _seeds(scope, policy)
        ]
    return found


def _seeds(scope: Scope, policy: str) -> Sequence[int]:
    own = policy == OURS or policy.startswith(PEER)
    return scope.seeds if own or not scope.baseline_seeds else scope.baseline_seeds


def with_split(policy: str, prefill: int) -> str:
    """The policy with a split in it; 0 is none, which only Dynamo has a name for."""
    if policy.startswith(PEER):
        return policy.replace(SPLIT, f"{prefill}P{8 - prefill}D" if prefill else "8")
    return policy.replace(SPLIT, str(prefill))


def _cells(scope: Scope) -> Iterator[tuple[str, float, float | None]]:
    for speedup, policy in product(scope.speedups, scope.every):
        yield policy, speedup, None
    for speedup, policy in product(scope.linked, scope.every_linked):
        yield policy, speedup, LINK_GB_S


def _splits(scope: Scope, policy: str, speedup: float, link: float | None) -> list[Run]:
    return [
        Run(policy=with_split(policy, prefill), speedup=speedup, seed=scope.seeds[0], link_gb_s=link)
        for prefill in scope.splits
    ]
