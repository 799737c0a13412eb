"""`place`: the cheapest mix of engines for a histogram of request lengths."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from coxswain_scheduler.placement.placement import InfeasibleError, Placement, UnservedError, place
from coxswain_scheduler.placement.reasons import reasons
from coxswain_simulate import quantities
from coxswain_simulate.files import write_json
from coxswain_simulate.flags import Parser, read_by
from coxswain_simulate.placements import Case, Flags, read


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "place",
        help="find the cheapest mix of engines",
        description="Find the cheapest mix of engines for a histogram of request lengths, and say why.",
        epilog="Exit status 1: it cannot be done; the line says why, and what is the nearest that can.",
    )
    parser.add_argument(
        "--inputs", type=Path, required=True, metavar="FILE", help="Mélange's formats or ours (docs/placement.md)"
    )
    parser.add_argument("--rate", type=read_by(quantities.positive), metavar="R", help="requests per second")
    parser.add_argument("--profile", metavar="NAME", help="which table of a file with several, such as 120ms")
    parser.add_argument(
        "--slice-factor",
        type=read_by(_parts),
        metavar="N",
        help="cut each bucket in N parts that are served whole, as Mélange does; 0: any shares, which is the default",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the answer there; - is standard output")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; the exit status. Raises InputError."""
    case = read(args.inputs, Flags(rate=args.rate, profile=args.profile, slice_factor=args.slice_factor))
    for warning in case.warnings:
        sys.stderr.write(f"coxswain-simulate: {warning}\n")
    began = time.thread_time()
    try:
        placement = place(case.problem)
    except InfeasibleError as error:
        return _refuse(args, case, error)
    answer = _answer(case, placement, cpu_seconds=time.thread_time() - began)
    if args.json is not None:
        write_json(answer, args.json)
    if args.json != Path("-"):
        _show(answer)
    return 0


def _answer(case: Case, placement: Placement, *, cpu_seconds: float) -> dict[str, Any]:
    return {
        "feasible": True,
        "cost": round(placement.cost, 9),
        "mix": placement.mix,
        "bound": placement.bound,
        "gap": placement.gap,
        "cpu_s": cpu_seconds,
        "requests_per_s": placement.problem.rate,
        "slice_factor": placement.problem.slice_factor,
        "reasons": reasons(placement),
        "warnings": list(case.warnings),
        "shares": _shares(placement),
    }


def _shares(placement: Placement) -> list[dict[str, Any]]:
    """Who serves what: one entry for each bucket with requests."""
    kinds, found = placement.problem.kinds, []
    for b, bucket in enumerate(placement.problem.buckets):
        shares = {kinds[e].name: float(share) for e, share in enumerate(placement.shares[:, b]) if share > 1e-9}
        if bucket.rate > 0:
            size = {"input_tokens": bucket.input_tokens, "output_tokens": bucket.output_tokens}
            found.append({**size, "requests_per_s": bucket.rate, "shares": shares})
    return found


def _refuse(args: argparse.Namespace, case: Case, error: InfeasibleError) -> int:
    reason = f"{error}; {case.nearest()}" if isinstance(error, UnservedError) else str(error)
    if args.json is not None:
        write_json({"feasible": False, "reasons": [reason], "warnings": list(case.warnings)}, args.json)
    sys.stderr.write(f"coxswain-simulate: {args.inputs}: {reason}\n")
    return 1


def _show(answer: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for line in answer["reasons"]:
        console.print(line)
    bound = f"bound {answer['bound']:.6g} per hour (engines divisible), gap {answer['gap']:.2%}"
    console.print(f"{bound}; {answer['cpu_s']:.3f} CPU-s")


def _parts(text: str) -> int:
    return 0 if text.strip() == "0" else quantities.whole(text)
