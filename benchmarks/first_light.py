"""What the parts cost: engine, gateway, operator, each beside a peer in the same run.

    python -m benchmarks.first_light [--only engine|gateway|operator] [--json PATH]

Prints a table per part, with hardware, workload and date, and writes the rows and a page. Rows that lose are printed
like any other.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

if not __package__:  # run as a file: the folder to import from is the repository, not this one
    sys.path[0] = str(Path(__file__).parents[1])

# Spinning threads would make every figure one of how busy the machine is. Read by OpenMP when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import uvloop
from rich.console import Console

from benchmarks.rows import Section, as_json, as_page, as_table, hardware, write
from examples.tiny_model.errors import TinyModelError

PARTS = ("engine", "gateway", "operator")
RESULTS = Path(__file__).with_name("results")


def measure(options: argparse.Namespace, console: Console) -> Iterator[Section]:
    """The sections asked for, each as soon as it is measured."""
    for part in PARTS:
        if part in (options.only or PARTS):
            yield _MEASURES[part](options, console)


def _engine(options: argparse.Namespace, console: Console) -> Section:
    from benchmarks import engine
    from examples.train_tiny_model import ensure_model

    return engine.measure(options.model or ensure_model(console), rounds=options.rounds, console=console)


def _gateway(options: argparse.Namespace, console: Console) -> Section:
    from benchmarks import routing

    found = options.router or shutil.which("sglang-router")
    router = Path(found) if found else None
    return uvloop.run(routing.compare(rounds=options.rounds, router=router, console=console))


def _operator(options: argparse.Namespace, console: Console) -> Section:
    from benchmarks import reconciling

    return asyncio.run(reconciling.measure(services=options.services, rounds=options.rounds, console=console))


_MEASURES = {"engine": _engine, "gateway": _gateway, "operator": _operator}


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_light", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given more than once")
    parser.add_argument("--json", type=Path, metavar="PATH", help=f"rows (default: {RESULTS.name}/first_light.json)")
    parser.add_argument("--page", type=Path, metavar="PATH", help=f"page (default: {RESULTS.name}/first_light.md)")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="checkpoint (default: the example's, trained if needed)"
    )
    parser.add_argument("--router", type=Path, metavar="FILE", help="sglang-router (default: the one on PATH, if any)")
    parser.add_argument("--rounds", type=_positive, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--services", type=_positive, default=1000, metavar="N", help="default: %(default)s")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return value


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 when everything was measured, 1 with a sentence when something could not be."""
    options = _arguments(arguments)
    console = Console(stderr=True)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = hardware()
    out = Console()
    out.print(f"{date}  {machine}")
    sections: list[Section] = []
    try:
        for section in measure(options, console):
            out.print(as_table(section))
            sections.append(section)
    except (TinyModelError, RuntimeError, ValueError, OSError) as error:
        console.print(f"error: {error}", soft_wrap=True, markup=False)
        return 1
    command = " ".join(["python -m benchmarks.first_light", *(arguments or sys.argv[1:])])
    # A part alone replaces the page of all parts only where that is asked for by name.
    if options.json or not options.only:
        write(options.json or RESULTS / "first_light.json", as_json(sections))
    if options.page or not options.only:
        write(
            options.page or RESULTS / "first_light.md", as_page(sections, command=command, machine=machine, date=date)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
