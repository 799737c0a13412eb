"""Whoever may do everything on a cluster, by its programs or straight over HTTPS."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.control_home import ControlHome
from e2e.cluster.errors import ClusterError, CommandError


@dataclass(frozen=True)
class Administrator:
    """Of the control plane that is at `home`, with programs from `bin_dir`."""

    home: ControlHome
    bin_dir: Path

    def run(self, program: str, args: Sequence[str], *, stdin: str | None, timeout: float) -> str:
        """Run kubectl or helm; returns its output. Raises CommandError when it exits non-zero."""
        home = self.home.directory / "home"
        home.mkdir(exist_ok=True)
        path = f"{self.bin_dir}:/usr/bin:/bin"
        environment = {"KUBECONFIG": str(self.home.kubeconfig), "HOME": str(home), "PATH": path}
        command = [str(self.bin_dir / program), *args]
        shown = f"{program} {' '.join(args[:6])}"
        try:
            done = subprocess.run(
                command, input=stdin, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{shown} did not end within {timeout:g} s") from error
        if done.returncode:
            raise CommandError(shown, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def read(self, path: str) -> bytes | None:
        """What the API has at `path`; None when it is not there or nobody answers."""
        try:
            with urllib.request.urlopen(self.home.url + path, context=self.home.tls, timeout=5) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            return None
