"""`replay`: run a trace on a simulated cluster under a policy."""

from __future__ import annotations

import argparse
import gc
import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from coxswain_scheduler.interface import Objectives, Policy
from coxswain_scheduler.policies.registry import POLICIES, create
from coxswain_scheduler.simulator.bounds import (
    feasible,
    fluid_work,
    infinite_cache,
    most_good,
    pooled_belady,
    pooled_lru,
    token_share,
)
from coxswain_scheduler.simulator.results import Result
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace
from coxswain_simulate import quantities
from coxswain_simulate.engines import profile_named, spec_of
from coxswain_simulate.errors import InputError
from coxswain_simulate.files import write_json
from coxswain_simulate.flags import Parser, add_trace_flags, read_by, trace_of
from coxswain_simulate.progress import shown
from coxswain_simulate.scenarios import Scenario, read_scenario
from coxswain_simulate.summary import summary, table
from coxswain_simulate.tenants import assign


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "replay",
        help="run a trace on a simulated cluster under a policy",
        description="Run a trace of requests on a simulated cluster under a policy, and say how it went.",
    )
    add_trace_flags(parser, required=False)
    group = parser.add_argument_group("cluster")
    group.add_argument("--engines", type=read_by(quantities.whole), metavar="N", help="how many (8)")
    group.add_argument("--timing", metavar="FILE|PROFILE", help="timing file, or name of an engine profile (mocker)")
    group.add_argument("--mocker-steps", action="store_true", help="step as Dynamo's mocker: to reproduce its replay")
    group.add_argument(
        "--link", type=read_by(quantities.bytes_per_second), metavar="RATE", help="25GB/s; free by default"
    )
    group.add_argument("--faults", type=Path, metavar="FILE", help="scenario whose faults happen")
    group.add_argument(
        "--scenario", type=Path, metavar="FILE", help="YAML: engines, tenants, faults, … (docs/simulator.md)"
    )
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--speedup", type=read_by(quantities.positive), default=1.0, metavar="X", help="divides arrivals"
    )
    group.add_argument("--ttft", type=read_by(quantities.seconds), default=2.0, metavar="TIME", help="first token (2s)")
    group.add_argument("--itl", type=read_by(quantities.seconds), default=0.05, metavar="TIME", help="mean gap (50ms)")
    group.add_argument("--policy", default="coxswain", metavar="NAME", help="NAME[:option=value,…]; list names them")
    group = parser.add_argument_group("results")
    group.add_argument("--json", type=Path, metavar="OUT", help="write all figures there; - is standard output")
    group.add_argument("--plot", type=Path, metavar="DIR", help="draw pictures and a page there")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; the exit status. Raises InputError."""
    if args.policy == "list":
        Console().print(_policies())
        return 0
    policy = _policy(args.policy, seed=args.seed or 0)
    scenario = _scenario(args)
    setup = _setup(args, scenario)
    with shown("reading the trace"):
        trace = assign(trace_of(args), scenario.tenants, seed=args.seed or 0)
    result = _simulated(trace, setup, policy, args.policy)
    with shown("computing bounds"):
        figures = _figures(args, trace, setup, result)
    if args.json != Path("-"):
        Console().print(table(figures))
    if args.json is not None:
        write_json(figures, args.json)
    if args.plot is not None:
        from coxswain_simulate.report import draw

        draw([figures], args.plot)
    return 0


def _policies() -> Table:
    shown_table = Table("policy", "what it does", box=None)
    for name, factory in POLICIES.items():
        shown_table.add_row(name, (inspect.getdoc(factory) or "").partition("\n")[0])
    return shown_table


def _policy(spec: str, *, seed: int) -> Policy:
    try:
        return create(spec, seed=seed)
    except ValueError as error:
        raise InputError(str(error)) from None


def _scenario(args: argparse.Namespace) -> Scenario:
    scenario = read_scenario(args.scenario) if args.scenario else Scenario()
    if args.faults is None:
        return scenario
    more = read_scenario(args.faults)
    if more != Scenario(faults=more.faults, scheduler_restarts=more.scheduler_restarts):
        raise InputError.at(args.faults, None, "has more than faults and schedulerRestarts: give it with --scenario")
    return scenario.model_copy(
        update={
            "faults": scenario.faults + more.faults,
            "scheduler_restarts": scenario.scheduler_restarts + more.scheduler_restarts,
        }
    )


def _setup(args: argparse.Namespace, scenario: Scenario) -> Setup:
    engines, kv_bytes = _engines(args, scenario)
    for number, fault in enumerate(scenario.faults):
        if fault.engine >= len(engines):
            raise InputError.at(
                args.faults or args.scenario,
                None,
                f"faults.{number}.engine is {fault.engine}; there are {len(engines)}, the first is 0",
            )
    setup = Setup(
        engines=tuple(replace(spec, mocker=args.mocker_steps) for spec in engines),
        objectives=Objectives(ttft=args.ttft, inter_token=args.itl),
        speedup=args.speedup,
        kv_bytes_per_token=kv_bytes,
        link_bytes_per_second=math.inf if args.link is None else args.link,
        kv_event_lag_seconds=scenario.kv_event_lag,
        faults=tuple(fault.fault() for fault in scenario.faults),
        restarts=scenario.scheduler_restarts,
    )
    if link := scenario.link:
        setup = replace(
            setup,
            link_bytes_per_second=link.bandwidth if args.link is None else args.link,
            link_latency_seconds=link.latency,
            kv_bytes_per_token=link.kv_bytes_per_token or kv_bytes,
        )
    if scenario.retries:
        setup = replace(setup, retry_shed=scenario.retries.times, retry_after_seconds=scenario.retries.after)
    return setup


def _engines(args: argparse.Namespace, scenario: Scenario) -> tuple[tuple[EngineSpec, ...], int]:
    """The engines, and the bytes of KV per token of the first."""
    if not scenario.engines:
        found = profile_named(args.timing or "mocker")
        spec = spec_of(found, startup_seconds=scenario.startup)
        return (spec,) * (args.engines or 8), int(found.kv_bytes_per_token)
    if args.engines or args.timing:
        raise InputError.at(args.scenario, None, "has engines, and so have the flags --engines or --timing: choose one")
    profiles = [profile_named(kind.profile) for kind in scenario.engines for _ in range(kind.count)]
    if len({found.block_size for found in profiles}) > 1:
        raise InputError.at(args.scenario, None, "engines: have blocks of different sizes")
    specs = tuple(spec_of(found, startup_seconds=scenario.startup) for found in profiles)
    return specs, int(profiles[0].kv_bytes_per_token)


def _simulated(trace: Trace, setup: Setup, policy: Policy, name: str) -> Result:
    simulation = Simulation(trace, setup, policy)
    span = max(1e-9, _span_seconds(trace) / setup.speedup)
    gc.freeze()  # the trace stays whole to the end: the collector need not look at it again and again
    with shown("replaying", lambda: min(1.0, simulation.now / span)):
        try:
            return simulation.run()
        except ValueError as error:
            raise InputError(f"policy {name}: {error}") from error
        finally:
            gc.unfreeze()


def _span_seconds(trace: Trace) -> float:
    """Until the last arrival that depends on no other request."""
    return max((request.arrival for request in trace.requests if not request.after), default=0.0)


def _figures(args: argparse.Namespace, trace: Trace, setup: Setup, result: Result) -> dict[str, Any]:
    cached = infinite_cache(trace, block_size=setup.engines[0].block_size)
    possible = feasible(trace, setup.engines, ttft=setup.objectives.ttft, cached=cached)
    most = max((engines for _, engines, _, _ in result.load), default=0)
    largest = replace(setup, engines=setup.engines + setup.engines[:1] * max(0, most - len(setup.engines)))
    span = _span_seconds(trace)
    return {
        "title": f"{trace.name}, ×{args.speedup:g}, {len(setup.engines)} engines, {args.policy}",
        "trace": trace.name,
        "policy": args.policy,
        "seed": args.seed,
        "speedup": args.speedup,
        "engines": len(setup.engines),
        "rate": len(trace.requests) * setup.speedup / span if span else None,
        "objectives": {"ttft_s": args.ttft, "inter_token_s": args.itl},
        "prefix_bounds": _prefix_bounds(trace, setup, cached),
        "max_speedup": _max_speedup(trace, setup, cached, possible),
        **summary(trace, result, feasible=possible, bound=most_good(trace, largest, chosen=possible)),
    }


def _prefix_bounds(trace: Trace, setup: Setup, infinite: Sequence[int]) -> dict[str, float]:
    """Shares of all prompt tokens that one cache as large as all engines' memory could spare, and one without limit."""
    tokens = sum(engine.total_blocks * engine.block_size for engine in setup.engines)
    size = setup.engines[0].block_size
    return {
        "infinite": token_share(trace, infinite),
        "pooled_lru": token_share(trace, pooled_lru(trace, tokens, block_size=size)),
        "pooled_belady": token_share(trace, pooled_belady(trace, tokens, block_size=size)),
    }


def _max_speedup(trace: Trace, setup: Setup, cached: Sequence[int], possible: Sequence[bool]) -> float | None:
    """The fluid work bound, for engines of one kind."""
    span = _span_seconds(trace)
    if len(set(setup.engines)) > 1 or not span or not any(possible):
        return None
    work = fluid_work(trace, setup.engines[0], cached=cached, chosen=possible)
    return work.max_speedup(engines=len(setup.engines), span_seconds=span)
