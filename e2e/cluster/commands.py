"""Short commands of the machine."""

from __future__ import annotations

import subprocess

from e2e.cluster.errors import ClusterError, CommandError


def run(*command: str, stdin: str | None = None, timeout: float = 30.0) -> str:
    """Run a command; returns its output. Raises CommandError when it exits non-zero, ClusterError when it hangs."""
    shown = " ".join(command[:8])
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{shown} did not end within {timeout:g} s") from error
    if done.returncode:
        raise CommandError(shown, done.returncode, done.stdout, done.stderr)
    return done.stdout
