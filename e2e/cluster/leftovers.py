"""What is still there of a cluster that was taken down: nothing, or a list for a person to read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster.network import Subnets, links, namespaces, prefix, used_slots
from e2e.cluster.state import directory_of, group_of, host_note, names


def leftovers(name: str) -> list[str]:
    """Processes, mounts, namespaces, links, routes, control groups and files of the cluster `name`.

    Links, addresses and changed kernel settings are listed when no cluster at all is up, whoever left them.
    """
    found = [*_processes(name), *_mounts(directory_of(name))]
    found += [f"namespace {each}" for each in namespaces() if each.startswith(prefix(name))]
    if group_of(name).exists():
        found.append(f"control group {group_of(name).name}")
    if directory_of(name).exists():
        found.append(f"directory {directory_of(name)}")
    if not names():
        found += [f"link {each}" for each in links() if each.startswith("cxs")]
        found += [f"addresses of {Subnets(slot).network}" for slot in sorted(used_slots())]
        found += host_note().leftovers()
    return found


def _processes(name: str) -> Iterator[str]:
    """By control group, and by a command line that names the cluster's directory."""
    pids = set(group_of(name).pids())
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # ended meanwhile
            continue
        mine = any(f"{directory_of(name)}/" in word for word in command)
        if int(entry.name) != os.getpid() and (mine or int(entry.name) in pids):
            yield f"process {entry.name}: {' '.join(command)[:100]}"


def _mounts(directory: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if Path(point).is_relative_to(directory):
            yield f"mount {point}"
