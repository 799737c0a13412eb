"""The compiled form of the scheduler's and the gateway's busiest modules, used where it is of exactly these sources.

`scheduler/compiling.py` makes it, beside the interpreter that it is for. All of it is used or none, since a class and
its compiled form are two classes. Whoever edits one of the sources runs them interpreted until they are compiled again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

FOLDER = Path(__file__).parents[1]
BUSY = {
    "coxswain_scheduler": (
        *("balancing.py", "demand.py", "freeness.py", "hosting.py", "migration.py", "openings.py", "packing.py"),
        *("queueing.py", "interface.py", "policies/coxswain.py"),
        *("batching/*.py", "prefilling/*.py", "prefixes/*.py", "steering/*.py"),
        *("costs/decode_line.py", "costs/fitted.py", "costs/polynomial.py", "costs/timing.py", "simulator/*.py"),
    ),
    "coxswain_gateway": ("cluster.py", "engines.py", "fixed.py", "roster.py"),
}
PLAIN = {"__init__.py", "integrity.py", "results.py", "setup.py", "trace.py"}
"""Packages, records and what tests alone use: nothing is gained by compiling them."""


def sources() -> list[Path]:
    """What is compiled."""
    found = (file for package, patterns in BUSY.items() for each in patterns for file in (FOLDER / package).glob(each))
    return sorted(file for file in found if file.name not in PLAIN)


def place() -> Path:
    """Where the compiled form of the sources as they are is, or would be."""
    digest = hashlib.sha256(EXTENSION_SUFFIXES[0].encode())
    for file in sources():
        digest.update(str(file.relative_to(FOLDER)).encode() + hashlib.sha256(file.read_bytes()).digest())
    return Path(sys.prefix, "lib", "coxswain-compiled", digest.hexdigest()[:16])


def modules(folder: Path) -> dict[str, Path]:
    """The compiled modules in a folder, by their names."""
    suffix = EXTENSION_SUFFIXES[0]
    files = {str(file.relative_to(folder)): file for file in folder.rglob(f"*{suffix}")}
    return {name.removesuffix(suffix).replace(os.sep, "."): file for name, file in files.items()}


class Finder(MetaPathFinder):
    """Finds compiled modules before anybody else finds their sources."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The compiled form of `name`, if there is one."""
        file = self._files.get(name)
        return None if file is None else spec_from_file_location(name, file)


def prefer() -> None:
    """Have the compiled form imported, where there is one, from now on. COXSWAIN_INTERPRETED=1 says not to."""
    if not os.environ.get("COXSWAIN_INTERPRETED") and (files := modules(place())):
        sys.meta_path.insert(0, Finder(files))
