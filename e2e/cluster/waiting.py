"""Waiting with a deadline, for what lies outside this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from e2e.cluster.errors import ClusterError

Found = TypeVar("Found")


class TooLateError(ClusterError, TimeoutError):
    """What was waited for did not come in time; the message says what."""


def wait_until(look: Callable[[], Found], *, what: str, timeout: float, period: float = 0.05) -> Found:
    """Look every `period` seconds until there is something (that is, something true), and return it.

    Raises TooLateError naming `what` after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TooLateError(f"waited {timeout:g} s for {what}")
        time.sleep(period)
    return found
