"""A thin client of the Kubernetes API: JSON in, JSON out, errors as a small tree.

```
ApiError
├── UnreachableError      no answer, or the server is not up to answering: try again later
├── NotFoundError         404
├── ConflictError         409: it exists already, or changed meanwhile
└── RefusedError          the request itself is wrong or not allowed: trying again the same way will not help
```
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import aiohttp
import msgspec
from kopf import ConnectionInfo

from coxswain_crds import names
from coxswain_operator import metrics
from coxswain_operator.cluster.kinds import SELECTOR, Kind

log = logging.getLogger(__name__)

Object = dict[str, Any]

APPLY = "application/apply-patch+yaml"
JSON = "application/json"
MERGE = "application/merge-patch+json"
TIMEOUT_SECONDS = 15.0
PAGE = 100
"""Objects per page of a list: bounds the memory that a page takes."""


class ApiError(Exception):
    """The API server did not do what was asked. `message` is its own sentence."""

    def __init__(self, message: str, *, status: int = 0, what: str = "") -> None:
        super().__init__(f"{what}: {message}" if what else message)
        self.status = status
        self.message = message


class UnreachableError(ApiError):
    """No answer, or 429 or 5xx: the same request may work later."""


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: the object exists already or changed since it was read."""


class RefusedError(ApiError):
    """400, 401, 403, 422: trying again the same way will not help."""


def error_of(*, status: int, message: str, what: str) -> ApiError:
    """The exception of an HTTP status."""
    if status == 404:
        return NotFoundError(message, status=status, what=what)
    if status == 409:
        return ConflictError(message, status=status, what=what)
    if status == 429 or status >= 500:
        return UnreachableError(message, status=status, what=what)
    return RefusedError(message, status=status, what=what)


class Api:
    """Requests to one API server. `login` is asked again when the credentials expire."""

    def __init__(self, login: Callable[[], ConnectionInfo]) -> None:
        self._login = login
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._renewing = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, kind: Kind, *, namespace: str | None = None, name: str) -> Object:
        """One object. Raises ApiError."""
        return await self.request("GET", kind.path(namespace=namespace, name=name))

    async def pages(self, kind: Kind, *, namespace: str | None = None) -> AsyncIterator[tuple[list[Object], str]]:
        """All objects of a kind, a page at a time, with the resource version of the list. Raises ApiError."""
        params = {"limit": str(PAGE)}
        if kind.selected:
            params["labelSelector"] = SELECTOR
        while True:
            answer = await self.request("GET", kind.path(namespace=namespace), params=params)
            metadata = answer.get("metadata", {})
            yield answer.get("items") or [], metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            params["continue"] = metadata["continue"]

    async def create(self, kind: Kind, body: Object) -> Object:
        """Create. Raises ConflictError when it exists."""
        path = kind.path(namespace=body["metadata"].get("namespace"))
        return await self.request("POST", path, body=body, params={"fieldManager": names.FIELD_MANAGER})

    async def apply(self, kind: Kind, body: Object, *, subresource: str | None = None) -> Object:
        """Server-side apply: what we say is ours, what others say stays."""
        metadata = body["metadata"]
        path = kind.path(namespace=metadata.get("namespace"), name=metadata["name"], subresource=subresource)
        params = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
        return await self.request("PATCH", path, body=body, params=params, content_type=APPLY)

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Write back an object that was read. Raises ConflictError when it changed meanwhile."""
        path = kind.path(namespace=body["metadata"].get("namespace"), name=body["metadata"]["name"])
        return await self.request("PUT", path, body=body)

    async def delete(self, kind: Kind, *, namespace: str, name: str, uid: str) -> Object:
        """Ask for the deletion of exactly this object, not of a namesake. Raises NotFoundError, ConflictError."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        return await self.request("DELETE", kind.path(namespace=namespace, name=name), body=body)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Object:
        """One request; logs in again once when the credentials are no longer good. Raises ApiError."""
        once = partial(
            self._once,
            method=method,
            path=path,
            params=params,
            data=None if body is None else msgspec.json.encode(body),
            headers=None if body is None else {"Content-Type": content_type},
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(5.0, timeout_seconds)),
        )
        session = await self._connected()
        status, answer = await once(session)
        if status == 401:
            status, answer = await once(await self._connected(stale=session))
        metrics.API_REQUESTS.labels(verb=method, code=str(status)).inc()
        if status >= 400:
            message = answer.get("message") or f"HTTP {status}"
            raise error_of(status=status, message=message, what=f"{method} {path}")
        return answer

    async def _connected(self, stale: aiohttp.ClientSession | None = None) -> aiohttp.ClientSession:
        async with self._renewing:
            if self._session is None or self._session is stale:
                await self.close()
                info = self._login()
                self._server = info.server.rstrip("/")
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=32, ssl=info.as_ssl_context()),
                    headers=info.as_http_headers() | {"User-Agent": "coxswain-operator"},
                    proxy=info.proxy_url,
                )
            return self._session

    async def _once(
        self, session: aiohttp.ClientSession, *, method: str, path: str, **arguments: Any
    ) -> tuple[int, Object]:
        try:
            async with session.request(method, self._server + path, **arguments) as response:
                return response.status, _decoded(await response.read(), response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            metrics.API_REQUESTS.labels(verb=method, code="none").inc()
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"no answer from {self._server}: {reason}", what=f"{method} {path}") from error


def _decoded(data: bytes, status: int) -> Object:
    try:
        answer = msgspec.json.decode(data) if data else {}
    except msgspec.DecodeError:
        answer = {"message": data[:500].decode(errors="replace")}
    return answer if isinstance(answer, dict) else {"message": f"HTTP {status}: {answer!r:.200}"}
