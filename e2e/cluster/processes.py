"""Long-running programs that a later process can find again, signal and stop, by process id and never by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.waiting import wait_until


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a living process; None when there is none (or only its zombie)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass
class Daemon:
    """One program: `DIRECTORY/NAME.pid` says which process it is, `DIRECTORY/NAME.log` has what it printed.

    The file holds the start time beside the process id, so that a reused id is not taken for the program.
    """

    name: str
    directory: Path
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def log(self) -> Path:
        """Standard output and error."""
        return self.directory / f"{self.name}.log"

    @property
    def _file(self) -> Path:
        return self.directory / f"{self.name}.pid"

    @property
    def pid(self) -> int | None:
        """The process, if it lives."""
        if self._child is not None:
            self._child.poll()  # reaps it
        try:
            pid, started = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if start_time(pid) == started else None

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        tied: bool = False,
        directory: Path | None = None,
    ) -> None:
        """Run `command` in a session of its own; `tied` has the kernel kill it when this process dies."""
        if self.pid is not None:
            return
        prefix = ["setpriv", "--pdeathsig", "KILL", "--"] if tied else []
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if environment is None else {**os.environ, **environment},
                cwd=directory,
                start_new_session=True,
            )
        self._file.write_text(json.dumps([self._child.pid, start_time(self._child.pid)]))

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the program is gone."""
        if (pid := self.pid) is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    def stop(self, number: signal.Signals = signal.SIGTERM, *, grace: float = 10.0) -> None:
        """End it, by SIGKILL when `grace` seconds were not enough. Returns when the process is gone."""
        self.send(number)
        self.send(signal.SIGCONT)
        try:
            wait_until(lambda: self.pid is None, what=f"{self.name} to end", timeout=grace, period=0.02)
        except ClusterError:
            self.send(signal.SIGKILL)
            wait_until(lambda: self.pid is None, what=f"{self.name} to be killed", timeout=10)
        self._file.unlink(missing_ok=True)
        if self._child is not None:
            self._child.wait(timeout=10)
            self._child = None

    def last_words(self, lines: int = 15) -> str:
        """The end of its log, for an error message."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
