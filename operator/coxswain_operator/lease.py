"""Which of several operators acts: a Lease of `coordination.k8s.io`, in the manner of client-go.

The holder renews every `retry` seconds. Whoever sees the same record for `duration` seconds on its own clock may take
it: clocks of machines are never compared. A holder that could not renew for `deadline` seconds has to stop before
others may start, so it ends the process; what it was doing is done again by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from coxswain_crds import names
from coxswain_operator.cluster.api import Api, ApiError, ConflictError, NotFoundError
from coxswain_operator.cluster.kinds import LEASES
from coxswain_operator.cluster.timestamps import micros

log = logging.getLogger(__name__)

Object = dict[str, Any]

DURATION_SECONDS = 15.0
DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


class LeaseLostError(Exception):
    """The Lease could not be renewed in time, or somebody else has it."""


class Lease:
    """One operator's claim. `clock` is monotonic, `wall` is only written down for people to read."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._wall = wall
        self._seen: Object | None = None
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self.held = False

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        log.info("waiting for the lease %s/%s as %s", self._namespace, names.LEASE, self._identity)
        while not await self.try_acquire():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(RETRY_SECONDS)
        log.info("the lease is held; reconciling begins")

    async def keep(self) -> None:
        """Renew for as long as that works. Raises LeaseLostError."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            await self.renew()

    async def try_acquire(self) -> bool:
        """One attempt to take the Lease. An API server that does not answer is a failed attempt."""
        try:
            lease = await self._read()
            self._observe(lease)
            if lease is None:
                lease = await self._create()
            elif self._is_free(lease):
                lease = await self._write(lease, taken=self._holder(lease) != self._identity)
            else:
                return False
        except ApiError as error:
            if not isinstance(error, ConflictError):
                log.warning("the lease cannot be taken: %s", error)
            return False
        self._renew_noted(lease)
        return True

    async def renew(self) -> None:
        """One renewal. Raises LeaseLostError when it is too late, or the Lease is somebody else's."""
        try:
            lease = await self._read()
            if lease is None or self._holder(lease) != self._identity:
                self.held = False
                raise LeaseLostError(f"the lease is held by {self._holder(lease) if lease else 'nobody'}")
            self._renew_noted(await self._write(lease, taken=False))
        except ApiError as error:
            silent = self._clock() - self._renewed_at
            log.warning("the lease was not renewed for %.0f s: %s", silent, error)
            if silent >= DEADLINE_SECONDS:
                self.held = False
                raise LeaseLostError(f"the lease could not be renewed for {silent:.0f} s") from error

    async def release(self) -> None:
        """Let the next one have it at once. Does nothing when it is not ours."""
        if not self.held:
            return
        self.held = False
        try:
            lease = await self._read()
            if lease is not None and self._holder(lease) == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": micros(self._wall())}
                await self._api.replace(LEASES, lease)
                log.info("the lease is released")
        except ApiError as error:
            log.warning("the lease was not released and will run out: %s", error)

    def _observe(self, lease: Object | None) -> None:
        record = lease["spec"] if lease else None
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()

    def _is_free(self, lease: Object) -> bool:
        holder = self._holder(lease)
        duration = lease["spec"].get("leaseDurationSeconds") or DURATION_SECONDS
        return holder in ("", self._identity) or self._clock() - self._seen_at >= duration

    def _renew_noted(self, lease: Object) -> None:
        self._observe(lease)
        self._renewed_at = self._clock()
        self.held = True

    @staticmethod
    def _holder(lease: Object) -> str:
        return lease.get("spec", {}).get("holderIdentity") or ""

    async def _read(self) -> Object | None:
        path = LEASES.path(namespace=self._namespace, name=names.LEASE)
        try:
            lease = await self._api.request("GET", path, timeout_seconds=5.0)
        except NotFoundError:
            return None
        lease.setdefault("spec", {})
        return lease

    async def _create(self) -> Object:
        now = micros(self._wall())
        spec = {"acquireTime": now, "renewTime": now, "leaseTransitions": 0} | self._claim()
        metadata = {"name": names.LEASE, "namespace": self._namespace}
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        return await self._api.create(LEASES, body)

    async def _write(self, lease: Object, *, taken: bool) -> Object:
        now = micros(self._wall())
        spec = lease["spec"] | {"renewTime": now} | self._claim()
        if taken:
            spec |= {"acquireTime": now, "leaseTransitions": (spec.get("leaseTransitions") or 0) + 1}
        path = LEASES.path(namespace=self._namespace, name=names.LEASE)
        return await self._api.request("PUT", path, body=lease | {"spec": spec}, timeout_seconds=5.0)

    def _claim(self) -> Object:
        return {"holderIdentity": self._identity, "leaseDurationSeconds": int(DURATION_SECONDS)}
