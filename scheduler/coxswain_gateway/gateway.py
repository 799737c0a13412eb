"""One gateway process: its three ports, its ticks, and its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from coxswain_gateway.api.server import Server
from coxswain_gateway.fleet import TICK_SECONDS, Fleet
from coxswain_gateway.links import BEAT_SECONDS, ReplicaListener
from coxswain_gateway.recorder import Recorder
from coxswain_gateway.settings import Settings
from coxswain_gateway.texts import Texts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ports:
    """Where a started gateway listens."""

    api: int
    replicas: int
    status: int


class Gateway:
    """Everything one gateway is. `start` it, `drain` it when asked to end, and `stop` it."""

    def __init__(self, settings: Settings, *, fleet: Fleet | None = None) -> None:
        self._settings = settings
        self._recorder = None if settings.record is None else Recorder(settings.record, settings)
        self.fleet = fleet or Fleet(settings, recorder=self._recorder)
        self._texts = Texts()
        self._server = Server(settings=settings, fleet=self.fleet, texts=self._texts)
        self._listener = ReplicaListener(settings=settings, fleet=self.fleet, texts=self._texts)
        self._api = web.AppRunner(
            self._server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=2
        )
        self._status = web.AppRunner(self._status_application(), access_log=None, shutdown_timeout=1)
        self._site: web.TCPSite | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> Ports:
        """Listen on all ports. Raises OSError when one is taken."""
        host = self._settings.host
        await self._api.setup()
        await self._status.setup()
        self._site = web.TCPSite(self._api, host, self._settings.port, backlog=1024)
        await self._site.start()
        await web.TCPSite(self._status, host, self._settings.status_port).start()
        replicas = await self._listener.start()
        self._ticking = asyncio.create_task(self._tick())
        return Ports(api=_port(self._api), replicas=replicas, status=_port(self._status))

    async def drain(self) -> None:
        """Turn unready at once, serve on while endpoints catch up, then finish what was accepted."""
        self.fleet.draining = True
        log.info("draining: %d streams", self.fleet.ledger.live)
        await asyncio.sleep(self._settings.linger_seconds)
        self._server.close()
        if self._site is not None:
            await self._site.stop()
        await self._server.idle()

    async def stop(self) -> None:
        """Close everything."""
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        await self._api.cleanup()
        await self._listener.stop()
        await self._status.cleanup()
        self._texts.close()
        if self._recorder is not None:
            self._recorder.close()

    async def _tick(self) -> None:
        beat_at = 0.0
        while True:
            now = time.monotonic()
            self.fleet.tick()
            if now >= beat_at:
                beat_at = now + BEAT_SECONDS
                self._listener.beat()
                self._server.drop_stalled(now)
            await asyncio.sleep(TICK_SECONDS)

    def _status_application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/internal/status", self._internal_status)
        app.router.add_get("/internal/traffic", self._internal_traffic)
        return app

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n") if self.fleet.accepts else web.Response(text="not ready\n", status=503)

    async def _internal_status(self, request: web.Request) -> web.Response:
        return self._internal(request, self.fleet.status)

    async def _internal_traffic(self, request: web.Request) -> web.Response:
        return self._internal(request, lambda: self.fleet.traffic(request.query.get("since", "")))

    def _internal(self, request: web.Request, page: Callable[[], object]) -> web.Response:
        """A page for the operator and the coordinator, who know the service's token."""
        expected = f"Bearer {self._settings.token}".encode()
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(errors="surrogateescape"), expected):
            return web.Response(status=401, text="Authorization must be `Bearer` and the service's token\n")
        return web.Response(body=msgspec.json.encode(page()), content_type="application/json")


def _port(runner: web.AppRunner) -> int:
    port: int = runner.addresses[0][1]
    return port
