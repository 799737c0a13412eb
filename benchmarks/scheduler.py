"""The scheduler's own cost: `python -m benchmarks.scheduler --micro [--json OUT]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import dispatching
from benchmarks.rows import as_json, as_table, hardware, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks.scheduler", description=__doc__)
    parser.add_argument("--micro", action="store_true", required=True, help="time dispatch and migration pairing")
    parser.add_argument("--calls", type=int, default=dispatching.CALLS, help="dispatches for each number of workers")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args(arguments)
    console = Console()
    console.print(hardware())
    section = dispatching.measure(calls=options.calls)
    console.print(as_table(section))
    if options.json:
        write(options.json, as_json([section]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
