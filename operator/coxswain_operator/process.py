"""The process: watches, caches and a webhook always; passes over services only while it holds the Lease."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Collection
from typing import Any

import kopf

from coxswain_crds import names
from coxswain_operator import health, metrics
from coxswain_operator.cluster import admission, watching
from coxswain_operator.cluster.admission import Admission
from coxswain_operator.cluster.api import Api, ApiError, NotFoundError
from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.login import Login
from coxswain_operator.cluster.resync import PERIOD_SECONDS, resync
from coxswain_operator.flags import Options
from coxswain_operator.lease import Lease, LeaseLostError
from coxswain_operator.observing.observer import Observer, StatusClient
from coxswain_operator.observing.view import step_floor_seconds
from coxswain_operator.reconciling.events import Events
from coxswain_operator.reconciling.queue import WorkQueue
from coxswain_operator.reconciling.reconcile import Reconciler
from coxswain_operator.reconciling.work import work

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
STOP_SECONDS = 3.0
"""What tasks get to end by themselves."""


class Process:
    """One operator. `run` ends with the exit code."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._login = Login(options.kubeconfig)
        self._api = Api(self._login)
        self._cache = Cache()
        self._queue: WorkQueue[Key] = WorkQueue()
        self._status = StatusClient()
        self._observer = Observer(self._cache, self._queue.add, self._status.fetch)
        self._lease = Lease(self._api, namespace=options.namespace, identity=options.identity)
        self._synced = False
        self._stop = asyncio.Event()
        self._reconciler = Reconciler(
            api=self._api,
            cache=self._cache,
            settings=options.settings,
            view=self._observer.view,
            events=Events(self._api, identity=options.identity),
        )

    async def run(self) -> int:
        """Until a signal (0), or until something ends that must not (1)."""
        runner = await health.serve(self._options.metrics_port, ready=self._not_ready, measure=self._measure)
        main = asyncio.create_task(self._main(), name="main")
        self._take_signals()
        try:
            stop = asyncio.create_task(self._stop.wait(), name="stop")
            await asyncio.wait({main, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            return 1 if main.done() and _explain(main) else 0
        finally:
            await _end([main])
            await runner.cleanup()
            await self._status.close()
            await self._api.close()

    async def _main(self) -> None:
        """Watch, and lead whenever it is our turn. Does not return; raises when something ends that must not."""
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._wait_for_crds()
            tasks += await self._start_kopf()
            leader = asyncio.create_task(self._lead(), name="leader")
            tasks.append(leader)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise RuntimeError(f"{', '.join(task.get_name() for task in done)} ended")
        finally:
            await _end([task for task in tasks if task.get_name() == "leader"])
            await _end(tasks)

    async def _lead(self) -> None:
        """Know everything, get the Lease, then work until it is lost. Gives it back when cancelled."""
        await self._sync()
        self._synced = True
        waiting = asyncio.create_task(self._keep_synced(), name="resync")
        try:
            await self._lease.acquire()
            metrics.LEADER.set(1)
            for key in self._cache.services:
                self._queue.add(key)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lease.keep())
                # The watches may have missed a deletion. An old picture does no harm meanwhile: names of Pods are
                # counted up, and deletions are of one uid.
                group.create_task(self._sync())
                group.create_task(self._observer.run())
                group.create_task(work(self._queue, self._reconciler.reconcile))
        finally:
            metrics.LEADER.set(0)
            waiting.cancel()
            await self._lease.release()

    async def _sync(self) -> None:
        """Read everything, however long the API server takes to answer."""
        while True:
            try:
                await resync(self._api, self._cache, self._queue.add, namespaces=self._options.watch_namespaces)
            except ApiError as error:
                log.warning("the API server cannot be read yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _keep_synced(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            await self._sync()

    async def _wait_for_crds(self) -> None:
        """kopf gives up on kinds that it does not find when it starts; a chart may install them after us."""
        wanted = {names.LLM_SERVICES, names.ACCELERATOR_CLASSES}
        while True:
            try:
                found = await self._api.request("GET", f"/apis/{names.GROUP}/{names.VERSION}")
                missing = wanted - {resource["name"] for resource in found.get("resources", [])}
                if not missing:
                    return
                log.warning("the API server does not know %s yet", ", ".join(sorted(missing)))
            except NotFoundError:
                log.warning("the API server does not know %s/%s: are the CRDs installed?", names.GROUP, names.VERSION)
            except ApiError as error:
                log.warning("the API server cannot be read yet: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _start_kopf(self) -> list[asyncio.Task[Any]]:
        """kopf looks for kinds once, and an API server that has just started does not say that it knows some not yet:
        until all are found, kopf is started anew."""
        while True:
            insights = watching.Insights()
            tasks = await self._spawn_kopf(insights)
            missing = await watching.missing(insights, tasks)
            if not missing:
                return tasks
            log.warning("the API server does not know %s yet", ", ".join(missing))
            await _end(tasks)
            await asyncio.sleep(RETRY_SECONDS)

    async def _spawn_kopf(self, insights: watching.Insights) -> list[asyncio.Task[Any]]:
        options = self._options
        server = None
        if options.webhook_cert is not None:
            server = kopf.WebhookServer(
                port=options.webhook_port,
                certfile=options.webhook_cert / "tls.crt",
                pkeyfile=options.webhook_cert / "tls.key",
                host="localhost",
            )
        admit = self._admit if server is not None else None
        tasks = await kopf.spawn_tasks(
            registry=watching.registry(self._cache, self._queue_if_known, login=self._login, admit=admit),
            settings=watching.settings(server),
            insights=insights,
            clusterwide=not options.watch_namespaces,
            namespaces=options.watch_namespaces,
        )
        # kopf has put its own handlers there, which would end the watches before the Lease is given back.
        self._take_signals()
        return list(tasks)

    def _queue_if_known(self, key: Key) -> None:
        """Objects may come before the service they belong to, and outlive it: neither is worth a pass."""
        if key in self._cache.services or self._reconciler.remembers(key):
            self._queue.add(key)

    def _admit(self, manifest: dict[str, Any]) -> Admission:
        metadata = manifest.get("metadata") or {}
        key = (str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        service = self._cache.services.get(key)
        floor = step_floor_seconds(self._observer.view(key), service.status if service else {})
        return admission.admit(manifest, cache=self._cache, settings=self._options.settings, step_floor_seconds=floor)

    async def _not_ready(self) -> str:
        """What keeps the process from being ready: as a leader, and as a standby that answers webhooks."""
        if not self._synced:
            return "not everything was read from the API server yet"
        if self._options.webhook_cert and not await health.webhook_answers(self._options.webhook_port):
            return "the webhook does not answer"
        return ""

    def _measure(self) -> None:
        metrics.QUEUE_DEPTH.set(len(self._queue.backlog))
        metrics.QUEUE_AGE.set(self._queue.oldest())

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)


def _explain(main: asyncio.Task[None]) -> bool:
    """Log in one line why the process ends. True, because it is never as it should be."""
    error = main.exception()
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    expected = isinstance(error, (LeaseLostError, kopf.LoginError, OSError))
    log.error("the operator ends: %s", error or "its main task ended", exc_info=None if expected else error)
    return True


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel, and wait a little."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
