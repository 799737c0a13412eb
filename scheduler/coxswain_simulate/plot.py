"""`plot`: pictures and a page of runs that `replay` has written."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from coxswain_simulate.flags import Parser
from coxswain_simulate.progress import shown


def add_parser(subparsers: argparse._SubParsersAction[Parser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "plot",
        help="draw runs that replay has written with --json",
        description="Draw latencies, goodput over rate and load over time of one or more runs, as PNG and as one page.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="JSON", help="what replay --json has written")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="folder for the pictures and report.html"
    )


def run(args: argparse.Namespace) -> int:
    """Run the subcommand; the exit status. Raises InputError."""
    from coxswain_simulate.report import draw, read_figures

    with shown("drawing"):
        files = draw([read_figures(path) for path in args.runs], args.out)
    for path in files:
        Console().print(str(path), highlight=False, soft_wrap=True)
    return 0
