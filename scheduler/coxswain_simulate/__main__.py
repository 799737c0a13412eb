"""The command `coxswain-simulate`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from coxswain_simulate.errors import InputError
from coxswain_simulate.flags import Parser

_COMMANDS = ("replay", "validate", "place", "scale", "jitter", "plot")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 2 with one line on standard error for what cannot be used."""
    commands = {name: module for name in _COMMANDS if (module := _module(name)) is not None}
    parser = Parser(prog="coxswain-simulate", description="Try schedulers, placements and scaling in virtual time.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in commands.values():
        module.add_parser(subparsers)
    args = parser.parse_args(arguments)
    try:
        return int(commands[args.command].run(args))
    except InputError as error:
        sys.stderr.write(f"coxswain-simulate: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _module(name: str) -> ModuleType | None:
    module = f"coxswain_simulate.{name}"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


if __name__ == "__main__":
    sys.exit(main())
