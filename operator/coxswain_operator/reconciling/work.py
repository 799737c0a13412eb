"""Workers: take a key from the queue, run a pass, and put the key back when that is called for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from coxswain_operator import metrics
from coxswain_operator.cluster.api import ApiError, UnreachableError
from coxswain_operator.cluster.cache import Key
from coxswain_operator.reconciling.queue import WorkQueue

log = logging.getLogger(__name__)

WORKERS = 16
"""Passes at a time: they wait for the API server far longer than they compute."""

Pass = Callable[[Key], Awaitable[float | None]]


async def work(queue: WorkQueue[Key], reconcile: Pass) -> None:
    """Run workers until cancelled."""
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(_worker(queue, reconcile))


async def _worker(queue: WorkQueue[Key], reconcile: Pass) -> None:
    while True:
        await one(queue, reconcile)


async def one(queue: WorkQueue[Key], reconcile: Pass) -> None:
    """One pass. Whatever goes wrong in it, the loop goes on."""
    key = await queue.get()
    started = time.perf_counter()
    try:
        again_after = await reconcile(key)
    except ApiError as error:
        _failed(queue, key, error, level=logging.INFO if isinstance(error, UnreachableError) else logging.WARNING)
    except Exception as error:
        log.exception("a pass failed", extra={"service": "/".join(key)})
        _failed(queue, key, error, level=logging.ERROR)
    else:
        queue.done(key, again_after=again_after)
        metrics.RECONCILES.labels(result="ok").inc()
    finally:
        metrics.RECONCILE_SECONDS.observe(time.perf_counter() - started)


def _failed(queue: WorkQueue[Key], key: Key, error: Exception, *, level: int) -> None:
    pause = queue.failed(key)
    metrics.RECONCILES.labels(result="error").inc()
    metrics.RECONCILE_ERRORS.labels(error=type(error).__name__).inc()
    log.log(level, "again in %.1f s: %s", pause, error, extra={"service": "/".join(key)})
