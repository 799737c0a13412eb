"""What the subcommands' flags have in common: how they are read, and how wrong ones are told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from coxswain_scheduler.simulator.trace import Trace
from coxswain_simulate import quantities
from coxswain_simulate.errors import InputError
from coxswain_simulate.traces import FORMATS, Options, load
from coxswain_simulate.traces.arrivals import Renewal

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line, and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        """As argparse, without the usage."""
        sys.stderr.write(f"{self.prog}: {' '.join(message.split())}\n")
        sys.exit(2)


def read_by(read: Callable[[str], T]) -> Callable[[str], T]:
    """A flag's type whose own message is shown."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def seed(text: str) -> int:
    """A seed: a whole number, not negative. Raises ValueError."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a seed: write a whole number from 0")
    return int(text)


def add_trace_flags(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The flags that name a trace and say what is done to its requests."""
    group = parser.add_argument_group("trace")
    group.add_argument("--trace", type=Path, metavar="FILE", required=required, help="plain or gzipped")
    group.add_argument("--format", choices=tuple(FORMATS), required=required, help="how the file is written")
    group.add_argument(
        "--arrivals",
        type=read_by(Renewal.parse),
        metavar="PROCESS",
        help="draw arrivals instead of taking the file's: poisson:RATE or gamma:RATE:CV, requests per second",
    )
    group.add_argument(
        "--high-priority",
        type=read_by(quantities.share),
        default=0.0,
        metavar="SHARE",
        help="mark this share of the requests, drawn at random, as of high priority, such as 10%%",
    )
    group.add_argument(
        "--copies",
        type=read_by(quantities.whole),
        default=1,
        metavar="N",
        help="each line stands for N requests, each moved by up to a second",
    )
    group.add_argument(
        "--seed",
        type=read_by(seed),
        metavar="N",
        help="move recorded arrivals by up to a second either way, and draw everything random; "
        "without it, recorded arrivals stay as they are",
    )


def trace_of(args: argparse.Namespace) -> Trace:
    """The trace that the flags name. Raises InputError."""
    for name in ("trace", "format"):
        if getattr(args, name) is None:
            raise InputError(f"the flag --{name} is missing")
    options = Options(arrivals=args.arrivals, seed=args.seed, high_priority=args.high_priority, copies=args.copies)
    return load(args.trace, args.format, options)
