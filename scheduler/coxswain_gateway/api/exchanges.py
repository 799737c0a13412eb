"""Every HTTP request from its arrival to its last byte: its id, errors in OpenAI's shape, and how many are open."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from uuid import uuid4

from aiohttp import web

from coxswain_gateway.api.errors import APIError, Invalid
from coxswain_gateway.statistics import Statistics

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_GOOD_ID = re.compile(r"[\x21-\x7e]{1,128}")
_ID_KEY = web.RequestKey("request_id", str)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request_id(request: web.Request) -> str:
    """The client's own id of a request, or the one that it was given on arrival."""
    return request[_ID_KEY]


class Exchanges:
    """The requests that are being answered. `frame` is a middleware, around every handler."""

    def __init__(self, *, statistics: Statistics, max_body_bytes: int) -> None:
        self._statistics = statistics
        self._max_body_bytes = max_body_bytes
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False
        """Whoever is refused now is to connect to another gateway."""

    async def idle(self) -> None:
        """Until every request has been answered to the end."""
        await self._idle.wait()

    @web.middleware
    async def frame(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give it its id, and the client an error in OpenAI's shape where `handler` raises."""
        given = request.headers.get(REQUEST_ID, "")
        request[_ID_KEY] = given if _GOOD_ID.fullmatch(given) else uuid4().hex
        self._open += 1
        self._idle.clear()
        try:
            return await self._answered(request, handler)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = self._refusal(request, _translated(error, self._max_body_bytes))
        except APIError as error:
            response = self._refusal(request, error)
        except Exception:
            log.exception("request failed", extra={"request_id": request_id(request)})
            response = self._refusal(request, APIError("internal error of the gateway; its log tells more", status=500))
        if not response.prepared:
            response.headers[REQUEST_ID] = request_id(request)
        return response

    def _refusal(self, request: web.Request, error: APIError) -> web.Response:
        self._statistics.refused[str(error.status)] += 1
        if request.path != "/health":
            log.info("refused: %s", error.message, extra={"request_id": request_id(request), "status": error.status})
        response = web.Response(
            status=error.status, body=error.body(), content_type="application/json", headers=error.headers
        )
        if self.closed:
            response.force_close()
        return response


def _translated(error: web.HTTPException, limit: int) -> APIError:
    """HTTP's own refusals in OpenAI's shape."""
    if error.status == 413:
        return Invalid(f"the body is larger than {limit} bytes", status=413, code="body_too_large")
    if error.status == 404:
        return Invalid("there is no such path; the API is under /v1", status=404, code="not_found")
    if error.status == 405:
        return Invalid("this path does not take this method", status=405, code="method_not_allowed")
    return Invalid(error.reason or "the request cannot be read", status=error.status)
