"""Kubernetes events about services, for `kubectl describe`: one per object and reason, counted, never a flood."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coxswain_crds import names
from coxswain_operator.cluster.api import MERGE, Api, ApiError, NotFoundError
from coxswain_operator.cluster.kinds import EVENTS
from coxswain_operator.cluster.records import ServiceRecord
from coxswain_operator.cluster.timestamps import micros

log = logging.getLogger(__name__)

Object = dict[str, Any]

SERIES_SECONDS = 600.0
"""What happens again within this time is counted on the same event."""
UPDATE_SECONDS = 30.0
"""An event's count is written at most this often."""
MAX_NOTE = 1000


@dataclass
class _Series:
    name: str
    count: int
    first: float
    written: float


class Events:
    """Writes events. What cannot be written is logged and dropped: nothing depends on an event."""

    def __init__(self, api: Api, *, identity: str, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._identity = identity
        self._clock = clock
        self._series: dict[tuple[str, str], _Series] = {}

    async def record(self, service: ServiceRecord, reason: str, note: str, *, warning: bool = False) -> None:
        """Something happened to a service."""
        now = self._clock()
        key = (service.uid, reason)
        series = self._series.get(key)
        try:
            if series is None or now - series.written > SERIES_SECONDS:
                self._forget_old(now)
                self._series[key] = await self._create(service, reason, note, warning=warning, now=now)
            else:
                await self._count(service, series, now)
        except NotFoundError:
            self._series.pop(key, None)
        except ApiError as error:
            log.info("an event was dropped: %s", error)

    async def _create(self, service: ServiceRecord, reason: str, note: str, *, warning: bool, now: float) -> _Series:
        name = f"{service.name}.{uuid.uuid4().hex[:16]}"
        await self._api.create(EVENTS, self._body(service, name, reason, note, warning=warning, now=now))
        return _Series(name=name, count=1, first=now, written=now)

    async def _count(self, service: ServiceRecord, series: _Series, now: float) -> None:
        series.count += 1
        if now - series.written < UPDATE_SECONDS:
            return
        series.written = now
        patch = {"series": {"count": series.count, "lastObservedTime": micros(now)}}
        path = EVENTS.path(namespace=service.namespace, name=series.name)
        await self._api.request("PATCH", path, body=patch, content_type=MERGE)

    def _body(self, service: ServiceRecord, name: str, reason: str, note: str, *, warning: bool, now: float) -> Object:
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": service.namespace},
            "eventTime": micros(now),
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": reason,
            "note": note[:MAX_NOTE],
            "reportingController": f"{names.GROUP}/operator",
            "reportingInstance": self._identity[:128],
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": names.LLM_SERVICE,
                "name": service.name,
                "namespace": service.namespace,
                "uid": service.uid,
            },
        }

    def _forget_old(self, now: float) -> None:
        for key in [key for key, series in self._series.items() if now - series.written > SERIES_SECONDS]:
            del self._series[key]
