"""How much memory an engine may still take."""

from __future__ import annotations

from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


def available_bytes(device: str) -> int:
    """Free memory of the device; on a CPU what the kernel calls available, and no more than the container's limit."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return min(_system(), _container())


def _system() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    raise RuntimeError("/proc/meminfo has no MemAvailable")


def _container() -> int:
    """What the cgroup (version 2) leaves, page cache counted as free; a very large number without a limit."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return 1 << 62
    return 1 << 62 if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))
