"""The gateways that a replica is connected to, told of things together, and the word of those that refuse it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from coxswain_workers.replica.link import GatewayLink
from coxswain_workers.replica.metrics import EngineMetrics

log = logging.getLogger(__name__)


class Gateways:
    """Links from their welcome to their end. `clock` tells seconds, as that of the links does."""

    def __init__(self, *, metrics: EngineMetrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._links: set[GatewayLink] = set()
        self._welcomed = False
        self._refusal = ""
        self._refused_since: float | None = None

    def __contains__(self, link: GatewayLink) -> bool:
        return link in self._links

    def joined(self, link: GatewayLink) -> None:
        """The gateway at its end has accepted this replica."""
        log.info("connected", extra={"gateway": link.gateway})
        self._welcomed = True
        self._links.add(link)
        self._metrics.gateways.set(len(self._links))

    def left(self, link: GatewayLink) -> None:
        """The connection has ended, or was refused."""
        if link.refused:
            log.error("refused by a gateway: %s", link.refused)
            self._refusal, self._refused_since = link.refused, self._refused_since or self._clock()
        if link.dropped:
            log.warning("dropped a gateway: %s", link.dropped, extra={"gateway": link.gateway})
            self._metrics.dropped.inc()
        elif link in self._links:
            log.info("disconnected, %d requests aborted", len(link.requests), extra={"gateway": link.gateway})
        self._links.discard(link)
        self._metrics.gateways.set(len(self._links))

    def live(self) -> list[GatewayLink]:
        """Those that are told of every step."""
        return [link for link in self._links if link.live]

    def broadcast(self, frame: bytes) -> None:
        """Queue a frame for every one."""
        for link in list(self._links):
            link.write(frame)

    def drop_silent(self, seconds: float) -> None:
        """Drop those that have said nothing for longer."""
        for link in list(self._links):
            if self._clock() - link.heard_at > seconds:
                link.drop("it is silent")

    def refusal(self, seconds: float) -> str:
        """Their reason, when gateways have refused this replica for longer than that and none ever took it."""
        refused = 0.0 if self._refused_since is None else self._clock() - self._refused_since
        return self._refusal if refused > seconds and not self._welcomed else ""

    async def close(self, *, timeout: float) -> None:
        """Close every connection after what is queued, which has `timeout` seconds to be sent."""
        closed = [asyncio.create_task(link.done.wait()) for link in self._links]
        for link in list(self._links):
            link.close()
        if closed:
            await asyncio.wait(closed, timeout=timeout)
