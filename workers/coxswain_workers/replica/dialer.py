"""Keeps one connection to every gateway that the service's name resolves to."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from coxswain_workers.addresses import Address, Addresses
from coxswain_workers.replica.link import GatewayLink

log = logging.getLogger(__name__)

RESOLVE_SECONDS = 1.0
CONNECT_SECONDS = 3.0
WELCOME_SECONDS = 5.0
"""A gateway that accepts a connection and does not answer hello within this is tried again."""
FIRST_DELAY = 0.1
LONGEST_DELAY = 2.0


def backoff(attempt: int) -> float:
    """Seconds before connection attempt `attempt` (0 is the first again): exponential, with full jitter."""
    return random.uniform(0.2, 1.0) * min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 10))


class Dialer:
    """Dials addresses as they appear and again when a connection ends; forgets those that DNS no longer names."""

    def __init__(self, addresses: Addresses, *, new_link: Callable[[], GatewayLink]) -> None:
        self._addresses = addresses
        self._new_link = new_link
        self._wanted: frozenset[Address] = frozenset()
        self._keepers: dict[Address, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wanted = await self._addresses.refresh()
                for address in self._wanted - self._keepers.keys():
                    self._keepers[address] = group.create_task(self._keep(address))
                await asyncio.sleep(RESOLVE_SECONDS)

    async def _keep(self, address: Address) -> None:
        attempt = 0
        try:
            while address in self._wanted:
                link = self._new_link()
                await self._attend(link, address)
                attempt = 0 if link.gateway else attempt + 1
                await asyncio.sleep(backoff(attempt))
        finally:
            del self._keepers[address]

    async def _attend(self, link: GatewayLink, address: Address) -> None:
        """Connect and stay until the connection ends."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: link, *address)
        except OSError as error:  # TimeoutError is one
            log.debug("cannot connect to %s:%d: %s", *address, error)
            return
        welcome = asyncio.get_running_loop().call_later(WELCOME_SECONDS, _expect_welcome, link)
        try:
            await link.done.wait()
        finally:
            welcome.cancel()
            link.drop("the replica stops")


def _expect_welcome(link: GatewayLink) -> None:
    if not link.gateway:
        link.drop(f"it did not answer hello within {WELCOME_SECONDS:.0f} s")
