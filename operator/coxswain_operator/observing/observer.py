"""Polls the status pages of services, and has a service looked at again when an answer changes what matters.

The coordinator is asked first; when it does not answer, or has no gateway's word, the gateways are asked themselves.
Pods are addressed by IP from the cache, so this needs no DNS and works while the API server is away. Services without
Pods are not polled. One poll costs well under a millisecond; with many services the period grows instead of the load.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import aiohttp
import msgspec

from coxswain_crds import names
from coxswain_operator import metrics
from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.records import PodRecord
from coxswain_operator.observing.measured import Window
from coxswain_operator.observing.view import TOKEN_LATELY_SECONDS, UNKNOWN, Member, View
from coxswain_protocol.status import GatewayStatus, MemberStatus, ServiceStatus
from coxswain_scheduler.membership import departure_order, merge

log = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
POLLS_PER_SECOND = 200
"""All services together; beyond that number of services the period grows."""
MEASURED_PERIOD_SECONDS = 15.0
"""How often latencies alone are news."""
PATIENCE_SECONDS = 10.0
"""How long silence is put down to a lost packet, before the last answer is given up."""
TIMEOUT_SECONDS = 2.0
CONCURRENT = 32

Answer = TypeVar("Answer", ServiceStatus, GatewayStatus)

Fetch = Callable[[str, str], Awaitable[bytes]]
"""Body of `GET http://ADDRESS:8002/internal/status` with a bearer token. Raises OSError or TimeoutError."""


@dataclass
class _Watched:
    """What the observer keeps of one service."""

    view: View | None = None
    answered_at: float = 0.0
    since: float = 0.0
    next_at: float = 0.0
    reported_at: float = 0.0
    heard: frozenset[str] = frozenset()
    ttft: Window = field(default_factory=Window)
    inter_token: Window = field(default_factory=Window)


class Observer:
    """Keeps one `View` per service that has Pods."""

    def __init__(
        self, cache: Cache, changed: Callable[[Key], None], fetch: Fetch, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache = cache
        self._changed = changed
        self._fetch = fetch
        self._clock = clock
        self._watched: dict[Key, _Watched] = {}

    def view(self, key: Key) -> View | None:
        """The last view; None while nothing can be said yet, because polls only just began."""
        watched = self._watched.get(key)
        if not self._askable(key):
            return replace(UNKNOWN, heard=watched.heard) if watched else UNKNOWN
        return watched.view if watched else None

    async def run(self) -> None:
        """Poll until cancelled."""
        slots = asyncio.Semaphore(CONCURRENT)
        async with asyncio.TaskGroup() as group:
            while True:
                due = self._due()
                for key in due:
                    await slots.acquire()
                    group.create_task(self._poll_and(key, slots))
                await asyncio.sleep(PERIOD_SECONDS / 10)

    def _due(self) -> list[Key]:
        """Services whose turn it is. What has no Pod that can be asked has none; what is deleted is forgotten."""
        now = self._clock()
        for key in self._watched.keys() - self._cache.services.keys():
            del self._watched[key]
        due = []
        for key in self._cache.services:
            watched = self._watched.get(key)
            if (watched is None or watched.next_at <= now) and self._askable(key):
                watched = self._watched.setdefault(key, _Watched(since=now))
                watched.next_at = math.inf  # until this poll has ended
                due.append(key)
        return due

    async def _poll_and(self, key: Key, slots: asyncio.Semaphore) -> None:
        started = self._clock()
        try:
            await self.poll(key)
        finally:
            slots.release()
            if key in self._watched:
                self._watched[key].next_at = started + max(PERIOD_SECONDS, len(self._watched) / POLLS_PER_SECOND)

    async def poll(self, key: Key) -> None:
        """Ask once, and report what changed."""
        watched = self._watched.setdefault(key, _Watched(since=self._clock()))
        status = await self._ask(key)
        metrics.STATUS_POLLS.labels(result="answered" if status else "silent").inc()
        before, view = watched.view, self._viewed(watched, status)
        watched.view = view
        if view is not None and self._is_news(watched, before, view):
            watched.reported_at = self._clock()
            self._changed(key)

    def _viewed(self, watched: _Watched, status: ServiceStatus | None) -> View | None:
        now = self._clock()
        if status is None:
            patient = now - max(watched.answered_at, watched.since) < PATIENCE_SECONDS
            return watched.view if patient else replace(UNKNOWN, heard=watched.heard)
        watched.answered_at = now
        watched.ttft.add([(g.gateway, g.ttft) for g in status.gateways], now=now)
        watched.inter_token.add([(g.gateway, g.inter_token) for g in status.gateways], now=now)
        watched.heard |= {m.replica for m in status.members if m.state != "Lost"}
        view = view_of(status, heard=watched.heard)
        return replace(view, ttft=watched.ttft.latencies(), inter_token=watched.inter_token.latencies())

    def _is_news(self, watched: _Watched, before: View | None, view: View) -> bool:
        if before is None or before.essence() != view.essence():
            return True
        latencies = (before.ttft, before.inter_token) != (view.ttft, view.inter_token)
        return latencies and self._clock() - watched.reported_at >= MEASURED_PERIOD_SECONDS

    async def _ask(self, key: Key) -> ServiceStatus | None:
        """The coordinator's answer, else one put together from the gateways'; None when nobody has anything to say."""
        token = self._token(key)
        pods = self._askable(key)
        coordinators = [pod for pod in pods if pod.component == names.COORDINATOR]
        for pod in sorted(coordinators, key=lambda pod: (pod.leaving, not pod.ready))[:2]:
            status = await self._get(pod, token, ServiceStatus)
            if status is not None and status.gateways:
                return status
        gateways = [pod for pod in pods if pod.component == names.GATEWAY]
        answers = await asyncio.gather(*(self._get(pod, token, GatewayStatus) for pod in gateways))
        return _joined(key, [answer for answer in answers if answer is not None])

    def _askable(self, key: Key) -> list[PodRecord]:
        components = (names.COORDINATOR, names.GATEWAY)
        return [pod for pod in self._cache.pods(key) if pod.component in components and pod.address]

    def _token(self, key: Key) -> str:
        secret = self._cache.child(key, "Secret", names.token_secret(key[1]))
        entry = dict(secret.secret).get(names.SECRET_TOKEN, "") if secret else ""
        try:
            return base64.b64decode(entry).decode()
        except ValueError:
            return ""

    async def _get(self, pod: PodRecord, token: str, answer: type[Answer]) -> Answer | None:
        try:
            return msgspec.json.decode(await self._fetch(pod.address, token), type=answer)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            log.debug("no status from %s: %s", pod.name, error)
        except msgspec.MsgspecError as error:
            log.warning("the status of %s is not understood: %s", pod.name, error)
        return None


def _joined(key: Key, gateways: Sequence[GatewayStatus]) -> ServiceStatus | None:
    if not gateways:
        return None
    members = merge(gateways)
    return ServiceStatus(
        service=key[1], gateways=tuple(gateways), members=members, departure_order=departure_order(members)
    )


def view_of(status: ServiceStatus, *, heard: frozenset[str] = frozenset()) -> View:
    """An answer, cut down."""
    canary = sorted(gateway.canary_error for gateway in status.gateways if gateway.canary_error)
    return View(
        answered=bool(status.gateways),
        members={member.replica: _member(member) for member in status.members},
        heard=heard,
        departures=status.departure_order,
        canary_error=canary[0] if canary else "",
        draining=frozenset(gateway.gateway for gateway in status.gateways if gateway.draining),
    )


def _member(member: MemberStatus) -> Member:
    return Member(
        state=member.state,
        weights_digest=member.weights_digest,
        exact=member.exact,
        step_floor_seconds=member.step_floor_seconds,
        token_lately=member.token_age is not None and member.token_age <= TOKEN_LATELY_SECONDS,
    )


class StatusClient:
    """Fetches status pages over HTTP, with few connections kept open."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, address: str, token: str) -> bytes:
        """See `Fetch`."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=1.0)
            connector = aiohttp.TCPConnector(limit=CONCURRENT, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{names.STATUS_PORT}/internal/status"
        async with self._session.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
            response.raise_for_status()
            return await response.read()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
