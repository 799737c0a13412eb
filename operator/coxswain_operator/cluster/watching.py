"""kopf as watcher, login and admission host; everything it brings goes into the cache and the queue.

kopf is told to keep nothing on objects: no annotations, no finalizers, no peering, no posted events. Its own memory per
object is cut to what its event handlers need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any

import kopf
from kopf._cogs.structs.references import Insights  # what `spawn_tasks` takes, and kopf exports under no other name

from coxswain_crds import names
from coxswain_operator import metrics
from coxswain_operator.cluster.admission import Admission
from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.kinds import SELECTOR, WATCHED, Kind

__all__ = ["Forever", "Insights", "missing", "registry", "settings"]

log = logging.getLogger(__name__)

UNPROCESSABLE = 422


class Forever:
    """Pauses between attempts of kopf's own requests: it must not give up while the API server is away."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.2, 0.5, 1.0)
        while True:
            yield 2.0


class NothingStored(kopf.DiffBaseStorage):
    """kopf compares objects with what it saw last, and stores that on them. It is spared both."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Nothing of an object is compared."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


def settings(server: kopf.WebhookServer | None) -> kopf.OperatorSettings:
    """kopf, held back."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.persistence.diffbase_storage = NothingStored()
    chosen.queueing.idle_timeout = 0.05
    chosen.queueing.exit_timeout = 0.2
    chosen.networking.error_backoffs = Forever()
    chosen.networking.connect_timeout = 5.0
    chosen.networking.request_timeout = 60.0
    chosen.watching.connect_timeout = 5.0
    chosen.watching.chunk_size = 100
    chosen.admission.server = server
    for kind in WATCHED:
        if kind.selected:
            chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = SELECTOR
    return chosen


def registry(
    cache: Cache,
    enqueue: Callable[[Key], None],
    *,
    login: Callable[[], kopf.ConnectionInfo],
    admit: Callable[[dict[str, Any]], Admission] | None,
) -> kopf.OperatorRegistry:
    """Handlers for everything that is watched, for logging in, and for the webhook if there is one."""
    handlers = kopf.OperatorRegistry()

    async def connect(**_: Any) -> kopf.ConnectionInfo:
        return login()

    kopf.on.login(registry=handlers)(connect)
    for kind in WATCHED:
        _watch(handlers, kind, cache, enqueue)
    if admit is not None:
        for plural in (names.LLM_SERVICES, names.ACCELERATOR_CLASSES):
            _validate(handlers, plural, admit)
    return handlers


async def missing(insights: Insights, tasks: Collection[asyncio.Task[Any]]) -> list[str]:
    """The kinds that kopf has not found and so will never watch, once it has looked; none when a task ended before."""
    looked = asyncio.create_task(insights.ready_resources.wait(), name="kinds")
    await asyncio.wait([looked, *tasks], return_when=asyncio.FIRST_COMPLETED)
    if not looked.cancel():
        found = {(each.group, each.version, each.plural) for each in insights.watched_resources}
        return [kind.kind for kind in WATCHED if (kind.group, kind.version, kind.plural) not in found]
    return []


def _watch(handlers: kopf.OperatorRegistry, kind: Kind, cache: Cache, enqueue: Callable[[Key], None]) -> None:
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        metrics.WATCH_EVENTS.labels(kind=kind.kind).inc()
        change = cache.drop if event["type"] == "DELETED" else cache.put
        for key in change(kind, dict(event["object"])):
            enqueue(key)

    kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers)(seen)


def _validate(handlers: kopf.OperatorRegistry, plural: str, admit: Callable[[dict[str, Any]], Admission]) -> None:
    async def validate(*, body: kopf.Body, warnings: list[str], **others: Any) -> None:
        if others["operation"] == "DELETE":
            return
        admission = admit(dict(body))
        warnings.extend(admission.warnings)
        if admission.message:
            raise kopf.AdmissionError(admission.message, code=UNPROCESSABLE)

    decorator = kopf.on.validate(names.GROUP, names.VERSION, plural, id="validate", registry=handlers)
    decorator(validate)
