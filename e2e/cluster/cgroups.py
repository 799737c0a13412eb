"""The control groups of a node: made beforehand in every hierarchy, emptied by SIGKILL, removed leaf by leaf.

Version 1 (one hierarchy per controller) is what this was tried on; version 2 (one for all) follows the kernel's
documentation, Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.waiting import wait_until

MOUNTS = Path("/proc/self/mounts")
ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Where control groups can be made: version 1's hierarchies, one per controller, and version 2's.

    A machine may have both (then runc makes groups in all of them), or version 2's alone.
    """
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    return [Path(point) for _, point, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def unified() -> bool:
    """Whether this is version 2."""
    return (ROOT / "cgroup.controllers").exists()


@dataclass(frozen=True)
class Group:
    """A control group of the same name in every hierarchy, such as `coxswain.NAME/node-1`."""

    name: str

    @property
    def _places(self) -> list[Path]:
        return [hierarchy / self.name for hierarchy in hierarchies()]

    @property
    def tracker(self) -> Path:
        """The place where the processes of this group are counted, by whoever starts them."""
        places = {place.relative_to(ROOT).parts[0]: place for place in self._places if place.is_relative_to(ROOT)}
        return places.get("pids") or self._places[0]

    def create(self) -> None:
        """Make it, ready for a kubelet: with processors and memory nodes, or controllers passed on."""
        for hierarchy in hierarchies():
            place = hierarchy
            for part in Path(self.name).parts:
                _delegate(place)
                place = place / part
                place.mkdir(exist_ok=True)
                _inherit_cpuset(place)
            _delegate(place)

    def pids(self) -> list[int]:
        """Processes in it and below."""
        return [int(pid) for place in _bottom_up(self.tracker) for pid in _read(place / "cgroup.procs").split()]

    def kill(self) -> None:
        """SIGKILL all that is in it, until nothing is. Raises ClusterError when something will not die."""

        def empty() -> bool:
            pids = self.pids()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            return not pids

        wait_until(empty, what=f"the processes of {self.name} to die", timeout=20, period=0.02)

    def remove(self) -> None:
        """Take it away in every hierarchy. Its processes must be dead."""
        wait_until(self._removed, what=f"control group {self.name} to be empty", timeout=10)

    def exists(self) -> bool:
        """Whether any hierarchy has it."""
        return any(place.exists() for place in self._places)

    def _removed(self) -> bool:
        for place in self._places:
            for each in _bottom_up(place):
                _rmdir(each)
        return not self.exists()


def _delegate(place: Path) -> None:
    if unified():
        controllers = _read(place / "cgroup.controllers").split()
        (place / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in controllers))


def _inherit_cpuset(place: Path) -> None:
    """A new group of version 1's cpuset has no processors, and takes no process until it has."""
    for setting in ("cpuset.cpus", "cpuset.mems"):
        own = place / setting
        if not unified() and own.exists() and not own.read_text().strip():
            own.write_text((place.parent / setting).read_text())


def _rmdir(place: Path) -> None:
    try:
        place.rmdir()
    except OSError:  # gone already, or a process is still leaving it: asked again until the deadline
        return


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the group went away between listing and reading
        return ""


def _bottom_up(place: Path) -> Iterator[Path]:
    """A group and those below it, leaves first; those that go away meanwhile are left out."""
    return (Path(path) for path, _, _ in os.walk(place, topdown=False))
