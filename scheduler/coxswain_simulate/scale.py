"""`scale`: run a day under the autoscaler, beside what hindsight would have done."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from coxswain_scheduler.autoscaling.autoscaler import Autoscaler
from coxswain_scheduler.autoscaling.capacity import EngineShape
from coxswain_scheduler.autoscaling.goals import Goals
from coxswain_scheduler.autoscaling.hindsight import Hindsight, hindsight
from coxswain_scheduler.autoscaling.rooms import Rooms
from coxswain_scheduler.autoscaling.scaled import PERIOD_SECONDS, Fixed, Plan, Scaled
from coxswain_scheduler.costs.profiles import EngineProfile
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.simulator.results import Result, quantiles
from coxswain_scheduler.simulator.setup import Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace
from coxswain_simulate import quantities
from coxswain_simulate.engines import profile_named, spec_of
from coxswain_simulate.errors import InputError
from coxswain_simulate.files import write_json
from coxswain_simulate.flags import Parser, add_trace_flags, read_by, trace_of
from coxswain_simulate.progress import shown

_SHOWN_SECONDS = 60.0
_DAY_OF_R1 = "h200-deepseek-r1-tp8"
_ROWS = {"autoscaler": "autoscaler", "clairvoyant": "clairvoyant", "peak_static": "peak-static"}


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "scale",
        help="run a trace under the autoscaler",
        description="Run a trace under the autoscaler, and print GPU-hours and attainment beside what hindsight needs.",
    )
    add_trace_flags(parser)
    group = parser.add_argument_group("engines")
    group.add_argument("--profile", default=_DAY_OF_R1, metavar="NAME", help=f"engine profile ({_DAY_OF_R1})")
    group.add_argument(
        "--startup", type=read_by(quantities.seconds), metavar="TIME", help="until an engine serves (the profile's)"
    )
    group.add_argument(
        "--initial", type=read_by(quantities.whole), metavar="N", help="engines at the start (as peak-static has)"
    )
    group.add_argument("--maximum", type=read_by(quantities.whole), default=1024, metavar="N", help="engines at most")
    group.add_argument("--idle-after", type=read_by(quantities.seconds), metavar="TIME", help="then scale to zero")
    group = parser.add_argument_group("what is asked")
    group.add_argument("--ttft", type=read_by(quantities.seconds), default=5.0, metavar="TIME", help="first token (5s)")
    group.add_argument("--itl", type=read_by(quantities.seconds), default=0.07, metavar="TIME", help="mean gap (70ms)")
    group.add_argument(
        "--attainment", type=read_by(quantities.share), default=0.99, metavar="SHARE", help="to be met by (99%%)"
    )
    group.add_argument(
        "--verify", action="store_true", help="simulate the two plans of hindsight too, and print their attainment"
    )
    group.add_argument(
        "--plan", choices=list(_ROWS.values()), metavar="NAME", help=f"simulate one alone: {', '.join(_ROWS.values())}"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there; - is standard output")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; the exit status. Raises InputError."""
    profile = profile_named(args.profile)
    startup = profile.startup_seconds if args.startup is None else args.startup
    objectives = Objectives(ttft=args.ttft, inter_token=args.itl)
    shape, goals = shape_of(profile), _goals(args, objectives, startup)
    with shown("reading the trace"):
        trace = trace_of(args)
    with shown("looking back"):
        seen = _looked_back(trace, shape, objectives, args)
    figures = _figures(args, trace, profile, startup, seen)
    plans = _hindsight_plans(seen, startup) | {"autoscaler": (Autoscaler(shape, goals), args.initial or seen.static())}
    for name in _wanted(args):
        plan, engines = plans[name]
        with shown(f"simulating: {name}"):
            figures[name] |= _simulated(trace, _setup(profile, startup, objectives, engines=engines), plan)
    if figures["autoscaler"]:
        _compare(figures)
    if args.json != Path("-"):
        Console().print(_table(figures))
    if args.json is not None:
        write_json(figures, args.json)
    return 0


def _wanted(args: argparse.Namespace) -> list[str]:
    if args.plan:
        return [name for name, title in _ROWS.items() if title == args.plan]
    return list(_ROWS) if args.verify else ["autoscaler"]


def _hindsight_plans(seen: Hindsight, startup: float) -> dict[str, tuple[Plan, int]]:
    """Plans with the engines that each begins with."""
    ahead, window = seen.clairvoyant(startup), seen.window_seconds
    clairvoyant = Fixed(lambda now: int(ahead[min(len(ahead) - 1, int(now / window))]))
    return {
        "clairvoyant": (clairvoyant, int(ahead[: int(startup / window) + 1].max())),
        "peak_static": (Fixed(lambda _: seen.static()), seen.static()),
    }


def _goals(args: argparse.Namespace, objectives: Objectives, startup: float) -> Goals:
    try:
        return Goals(
            objectives=objectives,
            attainment=args.attainment,
            startup_seconds=startup,
            maximum=args.maximum,
            idle_after_seconds=args.idle_after,
        )
    except ValueError as error:
        raise InputError(str(error)) from error


def shape_of(profile: EngineProfile) -> EngineShape:
    """What the autoscaler has to know of an engine."""
    return EngineShape(
        timing=profile.timing,
        kv_tokens=profile.total_blocks * profile.block_size,
        max_num_seqs=profile.max_num_seqs,
        step_tokens=profile.step_tokens,
        accelerators=profile.gpus,
    )


def _looked_back(trace: Trace, shape: EngineShape, objectives: Objectives, args: argparse.Namespace) -> Hindsight:
    try:
        return hindsight(trace, shape, objectives, attainment=args.attainment)
    except ValueError as error:
        raise InputError(f"{args.profile}: {error} (--ttft {args.ttft:g} s, --itl {args.itl:g} s)") from error


def _figures(
    args: argparse.Namespace, trace: Trace, profile: EngineProfile, startup: float, seen: Hindsight
) -> dict[str, Any]:
    hours, gpus = trace.seconds / 3600, profile.gpus
    paid = seen.clairvoyant(startup)
    return {
        "trace": trace.name,
        "requests": len(trace.requests),
        "profile": profile.name,
        "validated": profile.validated,
        "gpus_per_engine": gpus,
        "startup_s": startup,
        "objectives": {"ttft_s": args.ttft, "inter_token_s": args.itl, "attainment": args.attainment},
        "seed": args.seed,
        "window_s": seen.window_seconds,
        "autoscaler": {},
        "clairvoyant": {
            "planned_gpu_hours": float(paid.mean()) * hours * gpus,
            "planned_mean_engines": float(paid.mean()),
            "planned_peak_engines": int(paid.max()),
            "planned_engines": paid.tolist(),
        },
        "peak_static": {
            "planned_gpu_hours": seen.static() * hours * gpus,
            "engines": seen.static(),
            "engines_p99_window": seen.static(99.0),
        },
    }


def _setup(profile: EngineProfile, startup: float, objectives: Objectives, *, engines: int) -> Setup:
    spec = spec_of(profile, startup_seconds=startup)
    return Setup(engines=(spec,) * engines, objectives=objectives, kv_bytes_per_token=int(profile.kv_bytes_per_token))


def _simulated(trace: Trace, setup: Setup, plan: Plan) -> dict[str, Any]:
    policy, objectives, engines = Scaled(Rooms(), plan), setup.objectives, len(setup.engines)
    began = time.thread_time()
    result = Simulation(trace, setup, policy).run()
    paid = _paid(result, policy, trace.seconds)
    return {
        "attainment": result.good / len(result.outcomes),
        "gpu_hours": paid * setup.engines[0].gpus / 3600,
        "mean_engines": paid / trace.seconds if trace.seconds else float(engines),
        "peak_engines": max((ready for _, ready, _, _ in result.load), default=engines),
        "engines_over_time": policy.counts[:: round(_SHOWN_SECONDS / PERIOD_SECONDS)],
        "ttft_s": quantiles(result.values(lambda outcome: outcome.ttft)),
        "inter_token_s": quantiles(result.values(lambda outcome: outcome.inter_token)),
        "late_first_token": sum(o.ttft is None or o.ttft > objectives.ttft for o in result.outcomes),
        "moves": result.moves,
        "preemptions": result.preemptions,
        "cpu_s": time.thread_time() - began,
        "why": policy.why,
    }


def _paid(result: Result, policy: Scaled, until: float) -> float:
    """Engine seconds up to the last arrival: those that serve, leave, and start."""
    total = 0.0
    for (when, engines, _, _), (after, *_) in zip(result.load, result.load[1:], strict=False):
        total += engines * max(0.0, min(after, until) - when)
    for (when, _, starting), (after, *_) in zip(policy.counts, policy.counts[1:], strict=False):
        total += starting * max(0.0, min(after, until) - when)
    return total


def _compare(figures: dict[str, Any]) -> None:
    ours, static = figures["autoscaler"]["gpu_hours"], figures["peak_static"]["planned_gpu_hours"]
    best = figures["clairvoyant"]["planned_gpu_hours"]
    figures |= {
        "gpu_hours": ours,
        "attainment": figures["autoscaler"]["attainment"],
        "saving": 1 - ours / static,
        "clairvoyant_saving": 1 - best / static,
        "share_of_clairvoyant_saving": (static - ours) / (static - best) if static > best else None,
        "cpu_s": figures["autoscaler"]["cpu_s"],
    }


def _table(figures: dict[str, Any]) -> Table:
    shown_table = Table("", "GPU-hours", "mean engines", "peak", "attainment", "TTFT P99", "inter-token P99", box=None)
    for name, title in _ROWS.items():
        one = figures[name]
        if not one:
            continue
        hours = one.get("gpu_hours", one.get("planned_gpu_hours"))
        mean = one.get("mean_engines", one.get("planned_mean_engines", one.get("engines")))
        peak = one.get("peak_engines", one.get("planned_peak_engines", one.get("engines")))
        met = f"{one['attainment']:.2%}" if "attainment" in one else "planned"
        first, between = (one.get(key, {}).get("p99") for key in ("ttft_s", "inter_token_s"))
        shown_table.add_row(
            title,
            f"{hours:.0f}",
            f"{mean:.1f}",
            str(peak),
            met,
            "" if first is None else f"{first:.2f} s",
            "" if between is None else f"{1000 * between:.1f} ms",
        )
    if figures["autoscaler"]:
        share = figures["share_of_clairvoyant_saving"]
        shown_table.caption = f"saving {figures['saving']:.1%}; clairvoyant {figures['clairvoyant_saving']:.1%}" + (
            f"; share {share:.1%}" if share is not None else ""
        )
    return shown_table
