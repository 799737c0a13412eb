"""Where the gateways are: a name that a cluster's DNS resolves, or addresses as they stand."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

Address = tuple[str, int]
"""IP and port."""

Resolve = Callable[[str, int], Awaitable[frozenset[Address]]]
"""Addresses of a name. Raises OSError when the name cannot be resolved just now."""


@dataclass(frozen=True)
class GatewayAddresses:
    """What `--gateways` names: fixed addresses, and names to be resolved again and again."""

    fixed: frozenset[Address]
    names: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, text: str) -> GatewayAddresses:
        """Read `HOST:PORT[,HOST:PORT…]`. Raises ValueError saying what is wrong."""
        fixed: set[Address] = set()
        names: list[tuple[str, int]] = []
        for part in text.split(","):
            host, port = _host_and_port(part.strip())
            if _is_ip(host):
                fixed.add((host, port))
            else:
                names.append((host, port))
        return cls(frozenset(fixed), tuple(names))


class Addresses:
    """The gateways' addresses as last seen. A name that fails to resolve keeps those it had: DNS may be down."""

    def __init__(self, gateways: GatewayAddresses, *, resolve: Resolve) -> None:
        self._gateways = gateways
        self._resolve = resolve
        self._known: dict[tuple[str, int], frozenset[Address]] = {}

    @property
    def static(self) -> bool:
        """There is nothing to resolve."""
        return not self._gateways.names

    async def refresh(self) -> frozenset[Address]:
        """Resolve every name again and return all addresses."""
        for name in self._gateways.names:
            try:
                self._known[name] = await self._resolve(*name)
            except OSError as error:
                log.debug("cannot resolve %s, keeping %d addresses: %s", name[0], len(self._known.get(name, ())), error)
        return self._gateways.fixed.union(*self._known.values())


async def resolve(host: str, port: int) -> frozenset[Address]:
    """Ask the system's resolver. Raises OSError."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return frozenset((str(info[4][0]), port) for info in infos)


def _host_and_port(text: str) -> Address:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
