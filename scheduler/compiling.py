"""Compile the busiest modules of the scheduler with mypyc, for the interpreter that runs this.

    python scheduler/compiling.py [--required]

Where something is missing for that, or should it fail, the scheduler runs interpreted, which is said here; `--required`
makes that an error. Nothing is done where the sources as they are have been compiled.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from coxswain_scheduler.compiled import place, sources

UNDER_WAY = "building-"
SLOWER = "the scheduler runs interpreted, three to four times slower"


def main(arguments: list[str]) -> int:
    """Compile, and say what comes of it; the exit status."""
    target, required = place(), "--required" in arguments
    if target.exists():
        return 0
    if (missing := _missing()) is not None:
        print(f"{missing} is missing: {SLOWER}", file=sys.stderr)
        return int(required)
    began = time.monotonic()
    print(f"compiling {len(sources())} modules of the scheduler, which takes about a minute", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=UNDER_WAY) as scratch:
        if (failure := _built(Path(scratch))) is not None:
            print(f"{failure}\nthe scheduler could not be compiled (see above): {SLOWER}", file=sys.stderr)
            return int(required)
        _install(Path(scratch, "lib"), target)
    print(f"compiled the scheduler in {time.monotonic() - began:.0f} s")
    return 0


def _missing() -> str | None:
    """What is needed to compile and not there."""
    compiler = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(os.environ.get("CC", compiler)) is None:
        return f"the C compiler ({compiler})"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return str(header)
    return next((name for name in ("mypyc", "setuptools", "rich") if importlib.util.find_spec(name) is None), None)


def _built(scratch: Path) -> str | None:
    """Compile there, in a process of its own; None, or the end of what it said when it failed."""
    from rich.progress import Progress

    log = scratch / "log"
    with log.open("w") as said, Progress(transient=True) as progress:
        command = [sys.executable, __file__, "--build"]
        child = subprocess.Popen(command, cwd=scratch, stdout=said, stderr=subprocess.STDOUT)
        task = progress.add_task("compiling the scheduler", total=None)
        while child.returncode is None:
            progress.update(task, completed=_count(scratch, "*.o"), total=_count(scratch, "*.c") or None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=0.2)
    return None if child.returncode == 0 else "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.rglob(pattern))


def _install(built: Path, target: Path) -> None:
    """Put it in its place, and what was compiled before out of the way."""
    with contextlib.suppress(OSError):  # somebody else was quicker
        built.rename(target)
    for path in target.parent.iterdir():
        if path != target and not path.name.startswith(UNDER_WAY):
            shutil.rmtree(path, ignore_errors=True)


def _build() -> None:
    """Into the current folder."""
    from mypyc.build import mypycify
    from setuptools import setup

    extensions = mypycify(
        ["--config-file=", "--ignore-missing-imports", f"--cache-dir={os.devnull}", *map(str, sources())],
        opt_level="1",  # as quick as the higher ones here, and compiled in half the time
        debug_level="0",
        multi_file=True,
        target_dir="c",
        group_name="coxswain_scheduler",
    )
    options = ["--build-lib=lib", "--build-temp=objects", f"--parallel={os.cpu_count()}"]
    setup(name="coxswain-compiled", ext_modules=extensions, script_args=["build_ext", *options])


if __name__ == "__main__":
    if "--build" in sys.argv:
        _build()
    else:
        sys.exit(main(sys.argv[1:]))
