"""Writing an answer to its client: as it comes, or when it is whole.

A stream's task sleeps until its choices have something new, then writes all there is in one go. If the client is slow
the task waits in `write`, alone: tokens gather in the log, and go out together when there is room.
"""

from __future__ import annotations

import time

from aiohttp import web

from coxswain_gateway.api.calls import Call
from coxswain_gateway.api.errors import APIError, Overloaded, Unavailable
from coxswain_gateway.api.exchanges import REQUEST_ID
from coxswain_gateway.api.shapes import COMMENT, DONE, Shape

_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def write_whole(request: web.Request, call: Call, shape: Shape) -> web.StreamResponse:
    """Wait for every choice to end and answer. Raises APIError when one failed."""
    while not call.over:
        await call.changed()
    _raise_if_failed(call)
    for choice in call.choices:
        choice.take()
    return web.Response(body=shape.whole(), content_type="application/json")


async def write_stream(request: web.Request, call: Call, shape: Shape) -> web.StreamResponse:
    """Stream events until every choice has ended, or the client has gone. Raises APIError, but only instead."""
    response = web.StreamResponse(headers=_HEADERS)
    try:
        while not call.over:
            await call.changed()
            if data := _news(call, shape) or (COMMENT if call.held else b""):
                await _write(request, response, call, data)
        if not response.prepared:
            _raise_if_failed(call)
        await _write(request, response, call, _news(call, shape) + _ending(call, shape))
        await response.write_eof()
    except ConnectionResetError:
        pass  # the client has gone; whoever opened the call closes it
    return response


async def _write(request: web.Request, response: web.StreamResponse, call: Call, data: bytes) -> None:
    if not response.prepared:
        response.headers[REQUEST_ID] = call.request_id
        await response.prepare(request)
    call.writing_since = time.monotonic()
    await response.write(data)
    call.writing_since = None


def _news(call: Call, shape: Shape) -> bytes:
    events = []
    for choice in call.choices:
        piece = choice.take()
        if piece.text or piece.finish is not None or (piece.end > piece.start and shape.shows_tokens):
            events.append(shape.chunk(choice, piece))
    return b"".join(events)


def _ending(call: Call, shape: Shape) -> bytes:
    if call.error is not None:
        return b"data: " + _failure(call).body() + b"\n\n" + DONE
    return shape.last() + DONE


def _failure(call: Call) -> APIError:
    if call.shed:
        return Overloaded(f"too much is asked at once: {call.error}", retry_after=call.predicted_wait)
    message = f"the request could not be completed: {call.error}"
    if any(choice.generation.failures for choice in call.choices):
        return APIError(message, status=500, code="engine_error")
    return Unavailable(message, code="replica_lost")


def _raise_if_failed(call: Call) -> None:
    if call.error is not None:
        raise _failure(call)
