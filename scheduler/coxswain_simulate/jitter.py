"""`jitter`: a trace as `replay` would run it, as a file for another simulator."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from coxswain_simulate.flags import Parser, add_trace_flags, trace_of
from coxswain_simulate.progress import shown
from coxswain_simulate.traces import write


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "jitter",
        help="write the trace that a seed gives, in Mooncake's format",
        description="Write the trace that replay would run with these flags, not yet sped up, in Mooncake's format.",
    )
    add_trace_flags(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="JSON lines")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; the exit status. Raises InputError."""
    with shown("reading the trace"):
        trace = trace_of(args)
    with shown("writing the trace"):
        write(trace, args.out)
    Console().print(f"{len(trace.requests):,} requests in {trace.seconds:,.1f} s", highlight=False)
    return 0
