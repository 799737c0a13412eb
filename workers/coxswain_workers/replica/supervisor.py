"""The Pod's first process: keeps the engine actor alive, answers the kubelet, drains on SIGTERM.

It takes no part in serving. While it waits, the actor talks to the gateways by itself, so nothing here is in the path
of a token, and a probe costs no call into the actor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from ray.exceptions import RayActorError

from coxswain_crds.reasons import StartFailure
from coxswain_protocol.messages import EngineInfo
from coxswain_workers.engine.errors import ModelError
from coxswain_workers.replica.actor import EngineActor
from coxswain_workers.replica.failures import StartError
from coxswain_workers.replica.ray_head import RayHead
from coxswain_workers.replica.settings import Settings
from coxswain_workers.replica.stderr_passing import StderrServer

log = logging.getLogger(__name__)

MOST_DEATHS = 3
"""Deaths in a row, never ready in between, after which starting again is left to Kubernetes."""
METRICS_SECONDS = 2.0
LIVENESS_SECONDS = 1.0
DRAIN_MARGIN_SECONDS = 10.0


class SupervisorError(Exception):
    """The replica cannot serve; `failure` is for the termination log."""

    def __init__(self, failure: StartError) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Supervisor:
    """Watches one engine actor. `run` returns after a drain and raises SupervisorError when there is no hope."""

    def __init__(self, settings: Settings, *, head: RayHead, model: Future[Path], stderr: StderrServer) -> None:
        self._settings = settings
        self._head = head
        self._model = model
        self._stderr = stderr
        self._actor: Any = None
        self._ready = False
        self._draining = asyncio.Event()
        self._started_at = time.monotonic()
        self._registry = CollectorRegistry()
        self._up = Gauge("coxswain_replica_ready", "1 while the engine serves", registry=self._registry)
        self._restarts = Counter("coxswain_engine_restarts", "Engine processes that died", registry=self._registry)

    def drain(self) -> None:
        """Let what runs move or finish, then end `run`. For SIGTERM."""
        self._draining.set()

    async def run(self) -> None:
        """Serve the pages and watch the actor until drained."""
        runner = await self._serve_pages()
        tasks = [asyncio.create_task(work) for work in (self._watch(), self._drained(), self._watch_ray())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()

    async def _watch(self) -> None:
        """Make the actor once its model is there, and follow it through its lives."""
        try:
            model = await asyncio.wrap_future(self._model)
        except ModelError as error:
            raise SupervisorError(StartError.of(error)) from None
        make: Any = ray.remote(EngineActor)
        options = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": 4}
        self._actor = make.options(**options).remote(self._settings, model, self._stderr.path)
        while True:
            await self._engine_starts()
            try:
                return await self._engine_ends()
            except RayActorError as error:
                self._set_ready(False)
                self._restarts.inc()
                log.warning("the engine process died, Ray starts another: %s", error)

    async def _engine_starts(self) -> None:
        """Wait through restarts until the engine serves. Raises SupervisorError when it will not."""
        lives = self._stderr.served
        description = asyncio.ensure_future(self._actor.describe.options(max_task_retries=-1).remote())
        while not (await asyncio.wait([description], timeout=LIVENESS_SECONDS))[0]:
            if self._stderr.served - lives > MOST_DEATHS:
                message = f"the engine process died {MOST_DEATHS} times while starting; the Pod's log may say why"
                raise SupervisorError(StartError(StartFailure.ENGINE_HOST_FAILED, "", message))
        answer: EngineInfo | StartError = await description
        if isinstance(answer, StartError):
            raise SupervisorError(answer)
        self._set_ready(True)
        elapsed = time.monotonic() - self._started_at
        log.info("serving %s, %.1f s after the start, features: %s", answer.model, elapsed, ", ".join(answer.features))

    async def _engine_ends(self) -> None:
        error: StartError | None = await self._actor.wait.remote()
        if error is not None:
            raise SupervisorError(error)

    async def _drained(self) -> None:
        await self._draining.wait()
        if not self._ready:
            return
        self._set_ready(False)
        seconds = self._settings.drain_seconds
        try:
            await asyncio.wait_for(self._actor.drain.remote(seconds), seconds + DRAIN_MARGIN_SECONDS)
        except (RayActorError, TimeoutError) as error:
            log.warning("the engine process did not drain: %s", error)

    async def _watch_ray(self) -> None:
        while self._head.alive():  # noqa: ASYNC110 (a process of another library: there is no event for its end)
            await asyncio.sleep(LIVENESS_SECONDS)
        raise SupervisorError(StartError(StartFailure.ENGINE_HOST_FAILED, "", "a process of Ray died"))

    def _set_ready(self, ready: bool) -> None:
        self._ready = ready and not self._draining.is_set()
        self._up.set(self._ready)

    # ── pages ──

    async def _serve_pages(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._answer_ready)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, self._settings.status_host or None, self._settings.status_port).start()
        return runner

    async def _live(self, _request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def _answer_ready(self, _request: web.Request) -> web.Response:
        if self._ready:
            return web.Response(text="ready\n")
        return web.Response(text="draining\n" if self._draining.is_set() else "starting\n", status=503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        page = generate_latest(self._registry)
        if self._ready:
            try:
                page += await asyncio.wait_for(self._actor.metrics.remote(), METRICS_SECONDS)
            except (RayActorError, TimeoutError) as error:
                log.warning("the engine process did not answer for /metrics: %s", error)
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
