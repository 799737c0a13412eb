"""One run of the comparison, ours or Dynamo's, and the figures that come of it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks import dynamo_peer
from benchmarks.arena.turns import conversations
from coxswain_scheduler.policies.registry import create
from coxswain_scheduler.simulator.bounds import (
    feasible,
    infinite_cache,
    most_good,
    pooled_belady,
    pooled_lru,
    token_share,
)
from coxswain_scheduler.simulator.setup import Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace
from coxswain_simulate import traces
from coxswain_simulate.engines import profile_named, spec_of
from coxswain_simulate.summary import by_quintile, summary

DATA = Path(__file__).parents[1] / "data"
CONVERSATION = DATA / "mooncake_fast25/conversation_trace.jsonl.gz"
AZURE = DATA / "azure_llm_2023/AzureLLMInferenceTrace_conv.csv"
ENGINES = 8
TTFT_SECONDS, INTER_TOKEN_SECONDS = 2.0, 0.05
TUNING_REQUESTS = 4000
LINK_GB_S = 25.0
PEER = "Dynamo 1.6.1"

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is run. `policy` is one of ours with its options, or `Dynamo 1.6.1 ROUTER SPLIT`."""

    policy: str
    speedup: float
    seed: int | None = None
    """None: arrivals as recorded."""
    link_gb_s: float | None = None
    """None: free transfers."""
    workload: str = "conversation"
    mocker: bool = False
    """Whether our engines take their steps as Dynamo's mocker does, to the detail."""

    @property
    def key(self) -> str:
        """The same for the same run."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def theirs(self) -> bool:
        """Whether Dynamo runs it."""
        return self.policy.startswith(PEER)


def peer_policy(router: str, pools: dynamo_peer.Pools) -> str:
    """Dynamo's router with a split, as the name of a policy."""
    return f"{PEER} {router} {pools}"


def execute(run: Run, python: Path | None, folder: Path) -> Figures:
    """The figures of a run; `python` can import Dynamo's wheels, `folder` takes the traces that Dynamo reads.

    Raises PeerError where Dynamo does not answer.
    """
    figures = _theirs(run, python, folder) if run.theirs else _ours(run)
    return {**asdict(run), **figures}


@lru_cache(maxsize=8)
def trace_of(workload: str, seed: int | None) -> Trace:
    """The requests of `conversation`, `azure` or `turns`, jittered by the seed."""
    if workload == "turns":
        return conversations(TUNING_REQUESTS, seed=seed or 0)
    if workload == "conversation":
        return traces.load(CONVERSATION, "mooncake", traces.Options(seed=seed))
    whole = traces.load(AZURE, "azure", traces.Options(seed=seed))
    return Trace(whole.name, whole.requests[:TUNING_REQUESTS], whole.chunk_tokens)


def setup_of(run: Run) -> Setup:
    """Eight of Dynamo's mocked engines."""
    link = math.inf if run.link_gb_s is None else run.link_gb_s * 1e9
    engine = replace(spec_of(profile_named("mocker")), mocker=run.mocker)
    return Setup(engines=(engine,) * ENGINES, speedup=run.speedup, link_bytes_per_second=link)


@lru_cache(maxsize=8)
def possible(workload: str, seed: int | None) -> tuple[bool, ...]:
    """Which requests are feasible."""
    setup = setup_of(Run(policy="", speedup=1.0))
    return tuple(feasible(trace_of(workload, seed), setup.engines, ttft=TTFT_SECONDS))


@lru_cache(maxsize=64)
def bound(workload: str, seed: int | None, speedup: float) -> int:
    """The most that can be good."""
    setup = setup_of(Run(policy="", speedup=speedup))
    return most_good(trace_of(workload, seed), setup, chosen=possible(workload, seed))


def prefix_bounds(seed: int | None) -> dict[str, float]:
    """Shares of the conversation trace's prompt tokens that caches could spare."""
    trace, setup = trace_of("conversation", seed), setup_of(Run(policy="", speedup=1.0))
    size = setup.engines[0].block_size
    tokens = ENGINES * setup.engines[0].total_blocks * size
    found = {
        "pooled LRU": pooled_lru(trace, tokens, block_size=size),
        "pooled Belady": pooled_belady(trace, tokens, block_size=size),
        "infinite": infinite_cache(trace, block_size=size),
    }
    return {name: token_share(trace, cached) for name, cached in found.items()}


def simulate(run: Run) -> tuple[Trace, Any]:
    """The trace and what the simulator makes of it."""
    trace = trace_of(run.workload, run.seed)
    return trace, Simulation(trace, setup_of(run), create(run.policy, seed=run.seed or 0)).run()


def _ours(run: Run) -> Figures:
    trace, result = simulate(run)
    marked = possible(run.workload, run.seed)
    figures = summary(trace, result, feasible=marked, bound=bound(run.workload, run.seed, run.speedup))
    return {
        name: value for name, value in figures.items() if name not in ("curves", "load", "by_priority", "by_tenant")
    }


def _theirs(run: Run, python: Path | None, folder: Path) -> Figures:
    assert python is not None, "planned without an interpreter"
    router, pools = run.policy.removeprefix(PEER).split()
    outcome = dynamo_peer.replay(
        python,
        dynamo_peer.Case(
            trace=_written(run.seed, folder),
            router=router,
            pools=pools_of(pools),
            speedup=run.speedup,
            ttft_s=TTFT_SECONDS,
            inter_token_s=INTER_TOKEN_SECONDS,
            link_gb_s=run.link_gb_s,
        ),
    )
    marked, trace = possible("conversation", run.seed), trace_of("conversation", run.seed)
    return {
        "requests": outcome.requests,
        "feasible": sum(marked),
        "bound": bound("conversation", run.seed, run.speedup),
        "good": outcome.good,
        "good_by_quintile": _their_quintiles(outcome.samples),
        "feasible_by_quintile": by_quintile(trace, marked),
        "prefix_reuse": outcome.prefix_reuse,
        "ttft_s": dict(outcome.ttft_s),
        "inter_token_s": dict(outcome.inter_token_s),
        "token_gap_p99_s": outcome.token_gap_p99_s,
        "shed": 0,
        "moves": 0,
        "role_changes": 0,
        "cpu_s": outcome.cpu_s,
        "virtual_s": outcome.virtual_s,
    }


def pools_of(text: str) -> dynamo_peer.Pools:
    """Of `8` or `5P3D`."""
    prefill, split, decode = text.rstrip("D").partition("P")
    return dynamo_peer.Pools(prefill=int(prefill), decode=int(decode)) if split else dynamo_peer.Pools(both=int(text))


def _their_quintiles(samples: Sequence[dynamo_peer.Sample]) -> list[int]:
    counts = [0] * 5
    for place, one in enumerate(sorted(samples, key=lambda sample: sample.prompt_tokens)):
        paced = one.inter_token_s is None or one.inter_token_s <= INTER_TOKEN_SECONDS
        counts[place * 5 // len(samples)] += one.ttft_s <= TTFT_SECONDS and paced
    return counts


def _written(seed: int | None, folder: Path) -> Path:
    """The trace with the seed's jitter, as a file; two processes may write it at once."""
    if seed is None:
        return CONVERSATION
    file = folder / f"conversation-{seed}.jsonl"
    if not file.exists():
        part = file.with_suffix(f".{os.getpid()}.part")
        traces.write(trace_of("conversation", seed), part)
        part.replace(file)
    return file
