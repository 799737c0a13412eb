"""Free ports that stay free while their server is down."""

from __future__ import annotations

import random
import socket

RANGE = range(20000, 32000)
"""Below the ports that Linux gives to outgoing connections (32768 and up): one of those could take the place of a
stopped server."""


def free_ports(count: int, *, address: str = "127.0.0.1") -> list[int]:
    """Draw `count` different TCP ports on which nothing listens. Raises OSError when there are not that many."""
    found: list[int] = []
    for port in random.sample(RANGE, len(RANGE)):
        if len(found) == count:
            return found
        if _free(address, port):
            found.append(port)
    raise OSError(f"no {count} free ports between {RANGE.start} and {RANGE.stop}")


def _free(address: str, port: int) -> bool:
    try:
        socket.create_server((address, port)).close()
    except OSError:
        return False
    return True
