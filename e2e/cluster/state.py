"""Where clusters keep what a later process must know of them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster.cgroups import Group
from e2e.cluster.errors import ClusterError
from e2e.cluster.host import Host


def state_home() -> Path:
    """Where clusters keep their files, one directory for each name.

    Under XDG_STATE_HOME and not in a temporary directory: another process, or a later run with another TMPDIR, finds a
    cluster again by its name; nothing tidies it away while it runs; and containers' layers lie on disk, not in memory.
    """
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base.resolve() / "coxswain" / "clusters"


def directory_of(name: str) -> Path:
    """Files of the cluster `name`."""
    return state_home() / name


def group_of(name: str) -> Group:
    """Control group of every process of the cluster `name`."""
    return Group(f"coxswain.{name}")


def host_note() -> Host:
    """What clusters changed on this machine."""
    return Host(state_home() / "host.json")


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` for the length of the block; waits for whoever holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Layout:
    """What a later process must know of a cluster that is up."""

    slot: int
    nodes: int
    gateway_port: int

    @classmethod
    def load(cls, name: str) -> Layout:
        """Of the cluster `name`. Raises ClusterError when it is not up."""
        if not is_laid_out(name):
            raise ClusterError(f"no cluster {name!r} is up; start it with: python -m e2e.cluster up --name {name}")
        return cls(**json.loads(_layout_file(name).read_text()))

    def save(self, name: str) -> None:
        """For later processes."""
        file = _layout_file(name)
        file.with_suffix(".partial").write_text(json.dumps(asdict(self)))
        file.with_suffix(".partial").rename(file)


def is_laid_out(name: str) -> bool:
    """Whether there is a cluster `name`, whole or not."""
    return _layout_file(name).exists()


def names() -> list[str]:
    """Clusters that are there."""
    return sorted(file.parent.name for file in state_home().glob("*/cluster.json"))


def _layout_file(name: str) -> Path:
    return directory_of(name) / "cluster.json"
