"""`validate`: replay a recorded live run in the simulator, and say how far the two are apart."""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from coxswain_protocol.recording import RecordedEngine, RecordedRequest
from coxswain_scheduler.costs.line import LineTiming, fit_line
from coxswain_scheduler.costs.timing import Timing
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.policies.registry import create
from coxswain_scheduler.simulator.results import Outcome, quantile, quantiles
from coxswain_scheduler.simulator.setup import EngineSpec, Fault, Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_simulate.errors import InputError
from coxswain_simulate.files import write_json
from coxswain_simulate.flags import Parser
from coxswain_simulate.traces.recording import Recording, read

SHARES = (0.5, 0.9)
_WINDOW_SECONDS = 1.0
"""Over which the recorded engines' speed is averaged."""
_STEADY = 0.001
"""Speeds that differ by less are the same."""


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "validate",
        help="replay a recorded live run and compare",
        description="Replay what a gateway recorded with --record in the simulator: the same requests, engines and "
        "policy, with a cost model fitted to the recorded steps. Prints latencies of both.",
    )
    parser.add_argument("--recording", type=Path, required=True, metavar="FILE", help="what the gateway wrote")
    parser.add_argument("--policy", metavar="NAME", help="another policy than the recorded one")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there; - is standard output")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; the exit status. Raises InputError."""
    recording = read(args.recording)
    figures = compared(recording, policy=args.policy)
    if args.json != Path("-"):
        Console().print(table(figures))
    if args.json is not None:
        write_json(figures, args.json)
    return 0


def compared(recording: Recording, *, policy: str | None = None) -> dict[str, Any]:
    """Latencies live and simulated, in seconds, and how the cost model fits the steps. Raises InputError.

    Simulated twice: with engines of constant speed, and (`at_recorded_speed`) with engines that are slowed down second
    by second as the recorded ones were, which tells the simulator's own error from the machine's unsteadiness.
    """
    try:
        between = recording.between_seconds
        timing = fit_line(recording.events, between_seconds=between)
        chosen = create(policy or recording.begun.policy)
    except ValueError as error:
        raise InputError(f"{recording.name}: {error}") from None
    setup = Setup(
        engines=tuple(_spec(one, timing) for one in recording.engines),
        objectives=_objectives(recording),
        link_bytes_per_second=0.0,
    )
    trace, name = recording.trace(), policy or recording.begun.policy
    outcomes = Simulation(trace, setup, chosen).run().outcomes
    slow = replace(setup, faults=_speeds(recording, timing))
    uneven = Simulation(trace, slow, create(name)).run().outcomes
    return {
        "recording": recording.name,
        "policy": name,
        "requests": len(recording.requests),
        "engines": len(recording.engines),
        "resubmitted": sum(one.attempts > 1 for one in recording.requests),
        "shed": {
            "live": sum(one.outcome == "shed" for one in recording.requests),
            "simulated": sum(one.shed is not None for one in outcomes),
        },
        "cached_share": _cached(recording, outcomes),
        "timing": {name: getattr(timing, name) for name in LineTiming.__slots__} | {"between_steps": between},
        "steps": _step_figures(recording, timing, between),
        **_latencies(recording, outcomes),
        "at_recorded_speed": _latencies(recording, uneven),
    }


def table(figures: Mapping[str, Any]) -> Table:
    """For people."""
    columns = ("figure", "live", "simulated", "error", "at recorded speed", "error")
    shown = Table(*columns, title=f"{figures['recording']}: {figures['requests']} requests")
    for name, label in (("ttft_s", "first token"), ("inter_token_s", "between tokens")):
        for share in ("p50", "p90"):
            cells = [_time(figures[name]["live"][share])]
            for run in (figures, figures["at_recorded_speed"]):
                cells += [_time(run[name]["simulated"][share]), _percent(run[name]["error"][share])]
            shown.add_row(f"{label} {share.upper()}", *cells)
    return shown


def _latencies(recording: Recording, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "ttft_s": _both(_live_ttft(recording.requests), [one.ttft for one in outcomes]),
        "inter_token_s": _both(_live_gaps(recording.requests), [one.inter_token for one in outcomes]),
    }


def _speeds(recording: Recording, timing: LineTiming) -> tuple[Fault, ...]:
    """How much longer than fitted each engine's steps took, window by window."""
    begin = recording.requests[0].arrival
    numbers = {one.replica: number for number, one in enumerate(recording.engines)}
    spent: defaultdict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for step, seconds in recording.periods():
        window = spent[numbers[step.replica], int((step.at - begin) // _WINDOW_SECONDS)]
        window[0] += seconds
        window[1] += _predicted(timing, step.prefill_tokens, step.decodes, step.context)
    return tuple(
        Fault(
            kind="Slow",
            engine=engine,
            at=number * _WINDOW_SECONDS,
            seconds=_WINDOW_SECONDS * (1 - 1e-6),
            factor=measured / predicted,
        )
        for (engine, number), (measured, predicted) in sorted(spent.items())
        if number >= 0 and predicted > 0 and abs(measured / predicted - 1) > _STEADY
    )


def _spec(one: RecordedEngine, timing: Timing) -> EngineSpec:
    return EngineSpec(
        timing=timing,
        accelerator=one.accelerator,
        total_blocks=one.total_blocks,
        block_size=one.block_size,
        max_num_seqs=one.max_num_seqs,
        step_tokens=one.max_step_tokens,
    )


def _objectives(recording: Recording) -> Objectives:
    begun = recording.begun
    return Objectives(
        ttft=math.inf if begun.ttft_seconds is None else begun.ttft_seconds,
        inter_token=math.inf if begun.inter_token_seconds is None else begun.inter_token_seconds,
    )


def _cached(recording: Recording, outcomes: Sequence[Outcome]) -> dict[str, float]:
    prompts = sum(one.prompt_tokens for one in recording.requests)
    live, simulated = sum(one.cached for one in recording.requests), sum(one.cached for one in outcomes)
    return {"live": live / prompts, "simulated": simulated / prompts}


def _step_figures(recording: Recording, timing: LineTiming, between: float) -> dict[str, Any]:
    """How far the fitted line is from single steps, relative: what no simulation with it can reproduce."""
    errors = sorted(
        abs(_predicted(timing, one.prefill_tokens, one.decodes, one.context) - between - one.seconds) / one.seconds
        for one in recording.steps
        if one.seconds > 0 and (one.prefill_tokens or one.decodes)
    )
    return {"count": len(errors), "relative_error": quantiles(errors, SHARES)}


def _predicted(timing: LineTiming, prefill: int, decodes: int, context: int) -> float:
    return timing.step + timing.prefill_token * prefill + timing.decode * decodes + timing.context_token * context


def _live_ttft(requests: Sequence[RecordedRequest]) -> list[float | None]:
    return [None if one.first_token is None else one.first_token - one.arrival for one in requests]


def _live_gaps(requests: Sequence[RecordedRequest]) -> list[float | None]:
    """Mean time between the tokens of each request that has two."""
    return [
        (one.last_token - one.first_token) / (one.output_tokens - 1)
        if one.first_token is not None and one.last_token is not None and one.output_tokens > 1
        else None
        for one in requests
    ]


def _both(live: Sequence[float | None], simulated: Sequence[float | None]) -> dict[str, dict[str, float | None]]:
    figures = {
        name: {
            f"p{share * 100:g}": quantile(sorted(value for value in values if value is not None), share)
            for share in SHARES
        }
        for name, values in (("live", live), ("simulated", simulated))
    }
    error = {
        share: None if not real or (made := figures["simulated"][share]) is None else made / real - 1
        for share, real in figures["live"].items()
    }
    return figures | {"error": error}


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{error:+.1%}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f} ms"
