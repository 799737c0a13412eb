"""Applies the objects of a service other than its Pods, each only when it is not as wanted."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from coxswain_crds import names
from coxswain_crds.validation import FieldError
from coxswain_operator.cluster.api import Api, ConflictError, NotFoundError
from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.kinds import CHILDREN, SECRETS, Kind
from coxswain_operator.cluster.records import ChildRecord, version
from coxswain_operator.desired.children import children
from coxswain_operator.desired.secret import is_complete, secret
from coxswain_operator.reconciling.memory import Acting, Memory
from coxswain_operator.settings import Settings

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Offspring:
    """Secret, Services, Deployments and the budget of services."""

    def __init__(self, api: Api, cache: Cache, settings: Settings) -> None:
        self._api = api
        self._cache = cache
        self._settings = settings

    async def ensure(self, key: Key, memory: Memory, acting: Acting) -> None:
        """Bring everything to what `acting` wants. Raises ApiError; what was done until then stays done."""
        memory.taken = []
        await self._ensure_secret(key, memory, acting)
        stale = [
            (kind, name) for kind, name, digest in acting.children if self._is_stale(key, memory, kind, name, digest)
        ]
        if not stale:
            return
        bodies = {(body["kind"], body["metadata"]["name"]): body for body in children(acting.owner, self._settings)}
        applied = [self._apply(key, memory, CHILDREN[kind], bodies[kind, name]) for kind, name in stale]
        errors = [found for found in await asyncio.gather(*applied, return_exceptions=True) if found]
        if errors:
            raise errors[0]

    def _is_stale(self, key: Key, memory: Memory, kind: str, name: str, digest: str) -> bool:
        """Whether an object is missing, made from something else, or was written to since it was last as wanted."""
        record = self._cache.child(key, kind, name)
        if record is None or record.digest != digest or record.owner != self._uid(key):
            return True
        confirmed = memory.confirmed.get((kind, name))
        if confirmed is None and not record.touched:
            memory.confirmed[kind, name] = record.state
            return False
        return confirmed != record.state

    def _uid(self, key: Key) -> str:
        return self._cache.services[key].uid

    async def _apply(self, key: Key, memory: Memory, kind: Kind, body: Object) -> None:
        name = body["metadata"]["name"]
        if self._cache.child(key, kind.kind, name) is None and not await self._is_free(key, memory, kind, name):
            return
        applied = await self._api.apply(kind, body)
        self._cache.put(kind, applied)
        memory.confirmed[kind.kind, name] = applied["metadata"].get("generation") or version(applied)
        log.info("applied %s %s/%s", kind.kind, key[0], name, extra={"service": "/".join(key)})

    async def _is_free(self, key: Key, memory: Memory, kind: Kind, name: str) -> bool:
        """Whether a name can be used: applying would quietly take over an object of somebody else's."""
        try:
            there = await self._api.get(kind, namespace=key[0], name=name)
        except NotFoundError:
            return True
        owners = there["metadata"].get("ownerReferences") or []
        if any(owner["kind"] == names.LLM_SERVICE and owner["name"] == key[1] for owner in owners):
            return True
        message = f"there is a {kind.kind} {name} in {key[0]} already, which does not belong to this LLMService"
        memory.taken.append(FieldError("metadata.name", message))
        return False

    async def _ensure_secret(self, key: Key, memory: Memory, acting: Acting) -> None:
        """Made once. Should it be deleted, it comes back with what was in it: everything that runs holds that."""
        record = self._cache.child(key, SECRETS.kind, names.token_secret(key[1]))
        entries = dict(record.secret) if record else {}
        memory.secret.update({name: value for name, value in entries.items() if value})
        if record is not None and is_complete(entries):
            return
        body = secret(acting.owner, known=memory.secret)
        if record is not None:
            self._cache.put(SECRETS, await self._api.apply(SECRETS, body))
            return
        try:
            self._cache.put(SECRETS, await self._api.create(SECRETS, body))
        except ConflictError:
            if await self._is_free(key, memory, SECRETS, body["metadata"]["name"]):
                there = await self._api.get(SECRETS, namespace=key[0], name=body["metadata"]["name"])
                self._cache.put(SECRETS, there)


def ready_pods(record: ChildRecord | None) -> int:
    """Ready Pods of a Deployment; 0 when there is none."""
    return record.ready if record else 0
