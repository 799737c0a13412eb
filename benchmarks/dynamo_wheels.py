"""An interpreter that can import Dynamo's wheels, and what it prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.cluster.binaries import cache

VERSION = "1.6.1"
WHEELS = (f"ai-dynamo-runtime=={VERSION}", f"ai-dynamo=={VERSION}")

_IMPORT_SECONDS = 60.0
_INSTALL_SECONDS = 900.0


class PeerError(Exception):
    """Dynamo did not answer, or not what was expected. The message is one line."""


def interpreter(given: Path | None, *, say: Callable[[str], None]) -> Path | None:
    """The given Python if it can import Dynamo's replay, else one in the cache, made when it is missing.

    None, after saying why in one line, where there is none.
    """
    try:
        return _checked(given) if given is not None else _cached(say)
    except PeerError as error:
        say(f"no rows of Dynamo: {error}")
        return None


def output(command: Sequence[str | Path], *, seconds: float) -> str:
    """What the command prints. Raises PeerError with the last line of what it complained about."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # ours, not theirs
    environment["DYN_LOG"] = "error"
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise PeerError(f"{command[0]} did not end within {seconds:.0f} s") from None
    except OSError as error:
        raise PeerError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        complaints = done.stderr.strip().splitlines()
        raise PeerError(f"{command[0]}: {complaints[-1] if complaints else f'ended with status {done.returncode}'}")
    return done.stdout


def _checked(python: Path) -> Path:
    output([python, "-c", "from dynamo._core import run_mocker_trace_replay"], seconds=_IMPORT_SECONDS)
    return python


def _cached(say: Callable[[str], None]) -> Path:
    folder = cache() / f"dynamo-{VERSION}"
    python = folder / "bin" / "python"
    if python.exists():
        return _checked(python)
    say(f"installing {' and '.join(WHEELS)} in {folder}")
    try:
        venv.create(folder, with_pip=True)
        output([python, "-m", "pip", "install", "--quiet", "--no-deps", *WHEELS], seconds=_INSTALL_SECONDS)
        return _checked(python)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(f"no environment in {folder}: {error}") from None
    except PeerError:
        shutil.rmtree(folder, ignore_errors=True)  # so that the next run tries again
        raise
