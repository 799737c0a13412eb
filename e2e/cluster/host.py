"""What clusters change on the machine itself: a few kernel settings and mount points. Noted, and put back at the end.

Kubelets set these settings on any machine they run on (k8s.io/component-helpers/node/util/sysctl), and have two
directories' names built in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
MOUNT_POINTS = (Path("/var/lib/kubelet"), Path("/var/lib/cni"))
"""Directories that each node covers, in its own mount namespace, with one of its own."""


@dataclass(frozen=True)
class Host:
    """The note, in a file that all clusters of this machine share."""

    note: Path

    def prepare(self) -> None:
        """Note how the machine is, unless another cluster did, and make the mount points."""
        if not self.note.exists():
            absent = [str(path) for path in MOUNT_POINTS if not path.exists()]
            self.note.parent.mkdir(parents=True, exist_ok=True)
            partial = self.note.with_suffix(".partial")
            partial.write_text(json.dumps({"settings": _settings(), "absent": absent}))
            partial.rename(self.note)
        for path in MOUNT_POINTS:
            path.mkdir(parents=True, exist_ok=True)

    def restore(self) -> None:
        """Put the machine back to how it was noted. Only when the last cluster is gone."""
        if not self.note.exists():
            return
        noted = json.loads(self.note.read_text())
        for name, value in noted["settings"].items():
            if _settings().get(name) != value:
                _file(name).write_text(value)
        for path in map(Path, noted["absent"]):
            if path.exists() and not any(path.iterdir()):
                path.rmdir()
        self.note.unlink()

    def leftovers(self) -> list[str]:
        """What differs from the note."""
        if not self.note.exists():
            return []
        noted = json.loads(self.note.read_text())
        changed = [f"kernel setting {name}" for name, value in _settings().items() if noted["settings"][name] != value]
        return [*changed, *(f"directory {path}" for path in noted["absent"] if Path(path).exists()), str(self.note)]


def _settings() -> dict[str, str]:
    return {name: _file(name).read_text().strip() for name in SETTINGS if _file(name).exists()}


def _file(name: str) -> Path:
    return Path("/proc/sys", name)
