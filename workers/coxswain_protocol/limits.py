"""Limits that the kernel sets on a process."""

from __future__ import annotations

import resource

MOST_FILES = 1 << 20


def allow_many_connections() -> int:
    """Raise the limit of open files, often 1024, to what this process may have; returns it. Each stream is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
