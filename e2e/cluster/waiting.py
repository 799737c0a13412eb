"""Waiting with a deadline, for what lies outside this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from e2e.cluster.errors import ClusterError


def wait_until(ready: Callable[[], bool], *, what: str, timeout: float, period: float = 0.05) -> None:
    """Ask `ready` every `period` seconds until it says yes.

    Raises ClusterError naming `what` after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {timeout:g} s for {what}")
        time.sleep(period)
