"""Reading everything afresh: the watches tell of changes, but not when they have told all, nor what they missed.

kopf lists before it watches, and lists again when a watch breaks for too long. It says neither when a list is complete,
which must be known before anything is decided, nor which objects were deleted in between. A list of our own does both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from coxswain_operator.cluster.api import Api
from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.kinds import WATCHED, Kind

log = logging.getLogger(__name__)

PERIOD_SECONDS = 600.0


async def resync(api: Api, cache: Cache, enqueue: Callable[[Key], None], *, namespaces: Sequence[str] = ()) -> None:
    """Bring the cache to what the API server has now. Raises ApiError. No `namespaces` means all."""
    for kind in WATCHED:
        where: Sequence[str | None] = namespaces if namespaces and kind.namespaced else (None,)
        for key in await _resync_kind(api, cache, kind, where):
            enqueue(key)


async def _resync_kind(api: Api, cache: Cache, kind: Kind, where: Sequence[str | None]) -> set[Key]:
    present: set[Key] = set()
    changed: set[Key] = set()
    version = 0
    for namespace in where:
        async for page, listed_at in api.pages(kind, namespace=namespace):
            version = version or int(listed_at or 0)
            for raw in page:
                present.add((raw["metadata"].get("namespace") or "", raw["metadata"]["name"]))
                changed.update(cache.put(kind, raw))
    gone = cache.prune(kind, present=present, version=version)
    if gone:
        log.info("%d services had a %s whose deletion no watch told of", len(gone), kind.kind)
    return changed | gone
