"""Python's compiled modules, made before containers see the tree: they cannot write, and would compile each time."""

from __future__ import annotations

import compileall
import hashlib
import sysconfig
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import track

from e2e.cluster.binaries import cache
from e2e.cluster.image import SOURCES

OWN = ("crds", "scheduler", "kernels", "workers", "operator")
"""Folders of the source tree whose packages run in containers."""


def compile_modules(console: Console) -> None:
    """Compile what has no current bytecode: our packages always, the environment's once per state of it."""
    for folder in OWN:
        compileall.compile_dir(SOURCES / folder, quiet=2)
    site = Path(sysconfig.get_path("purelib"))
    stamp = cache() / f"bytecode-{_state(site)}"
    if not stamp.exists():
        _compile(site, console)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def _state(site: Path) -> str:
    """A name for the environment as it is: its packages, by path and time of installation."""
    metadata = sorted(f"{path}{path.stat().st_mtime_ns}" for path in site.glob("*.dist-info"))
    return hashlib.sha256("".join(metadata).encode()).hexdigest()[:16]


def _compile(site: Path, console: Console) -> None:
    folders = [path for path in site.iterdir() if path.is_dir() and path.suffix != ".dist-info"]
    with ProcessPoolExecutor() as pool:
        tasks = [pool.submit(compileall.compile_dir, folder, quiet=2) for folder in folders]
        for task in track(as_completed(tasks), "compiling Python modules", total=len(tasks), console=console):
            task.result()
