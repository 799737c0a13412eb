"""Clients that are slow, leave, or are too many; and what a gateway says of itself to those that ask."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import APIStatusError, InternalServerError, RateLimitError

from coxswain_protocol.messages import EngineInfo
from e2e.compare import compare
from tests.gateway.conftest import MODEL, NewReplica, Running, Start
from tests.gateway.scripted import expected
from tests.gateway.streaming import busy, run_all, undisturbed

BODY: dict[str, Any] = {"model": MODEL, "prompt": "a", "max_tokens": 400, "stream": True}


@asynccontextmanager
async def raw_stream(gateway: Running, body: dict[str, Any]) -> AsyncIterator[asyncio.StreamReader]:
    """A streaming request on a socket of its own, with small buffers on both sides, so that it is soon stuck."""
    for listener in gateway.gateway._site._server.sockets:  # type: ignore[union-attr]
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", gateway.ports.api))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_a_slow_client_stalls_nobody(start: Start, new_replica: NewReplica, info: EngineInfo) -> None:
    gateway = await start()
    replica = await gateway.add(new_replica("replica-0"))
    body = BODY | {"logprobs": 20, "return_token_ids": True, "seed": 1, "prompt": [5]}
    async with raw_stream(gateway, body) as reader:
        await busy(replica)
        assert compare(await run_all(gateway, range(50), tokens=40), undisturbed(info, range(50), 40)).clean
        await gateway.until(lambda: gateway.gateway.fleet.ledger.live == 0, what="the slow client's own tokens")
        (call,) = gateway.gateway._server._running
        assert call.writing_since is not None, "the client was not slow enough to block its writer"
        text = await reader.read(-1)
    events = [json.loads(line[6:]) for line in text.split(b"\n") if line.startswith(b"data: {")]
    tokens = [token for event in events for token in event["choices"][0]["token_ids"]]
    assert tokens == expected((5,), seed=1, tokens=400, vocab_size=info.vocab_size)
    assert len(events) < 400, "what had gathered was not written in one go"


async def test_a_client_that_takes_nothing_is_dropped(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(stall_seconds=0.5)
    replica = await gateway.add(new_replica("replica-0"))
    async with raw_stream(gateway, BODY | {"logprobs": 20}):
        await busy(replica)
        await gateway.until(lambda: not gateway.gateway._server._running, what="it to be dropped", timeout=20)


@pytest.mark.parametrize("stream", [True, False])
async def test_disconnecting_aborts(start: Start, new_replica: NewReplica, stream: bool) -> None:
    gateway = await start()
    replica = await gateway.add(new_replica("replica-0"))
    request = asyncio.create_task(gateway.post("/v1/completions", BODY | {"stream": stream, "n": 2}))
    await busy(replica, streams=2)
    request.cancel()
    await replica.until(lambda: not replica.running, what="both sequences to be aborted")
    assert len(replica.aborted) == 2
    assert gateway.gateway.fleet.ledger.live == 0
    assert gateway.gateway.fleet.statistics.ended == {"client_gone": 2}


async def test_too_many_waiting_get_429(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(max_waiting=4)
    replica = await gateway.add(new_replica("replica-0"))
    replica.stuck = True
    waiting = [
        asyncio.create_task(gateway.post("/v1/completions", BODY | {"max_tokens": 2, "stream": False}))
        for _ in range(4)
    ]
    await gateway.until(lambda: gateway.gateway.fleet.ledger.waiting == 4, what="a full queue")
    with pytest.raises(RateLimitError) as refused:
        await gateway.openai.completions.create(model=MODEL, prompt="a")
    assert int(refused.value.response.headers["Retry-After"]) >= 1
    assert refused.value.code == "rate_limit_exceeded"
    replica.stuck = False
    assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200] * 4
    await gateway.openai.completions.create(model=MODEL, prompt="a", max_tokens=1)


async def test_more_at_once_than_the_queue_holds_is_a_bad_request(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(max_waiting=4)
    await gateway.add(new_replica("replica-0"))
    status, error, _ = await gateway.post("/v1/completions", {"prompt": ["a", "b", "c"], "n": 2})
    assert (status, error["error"]["param"]) == (400, "n")


async def test_without_replicas_new_requests_get_503(start: Start) -> None:
    gateway = await start()
    with pytest.raises(InternalServerError) as refused:
        await gateway.openai.completions.create(model=MODEL, prompt="a")
    assert refused.value.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) >= 1
    async with gateway.http.get(f"{gateway.url}/health") as answer:
        assert answer.status == 503


async def test_health_waits_for_a_token(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    replica = new_replica("replica-0", stuck=True)
    await replica.connect(gateway.ports.replicas)
    gateway.replicas.append(replica)
    async with gateway.http.get(f"{gateway.url}/health") as answer:
        assert answer.status == 503
    replica.stuck = False
    await gateway.until(lambda: gateway.gateway.fleet.ready, what="the canary")
    async with gateway.http.get(f"{gateway.url}/health") as answer:
        assert answer.status == 200
    assert (await gateway.status()).token_age is not None


async def ready(gateway: Running) -> int:
    async with gateway.http.get(f"http://127.0.0.1:{gateway.ports.status}/ready") as answer:
        return answer.status


async def test_a_gateway_is_ready_from_its_first_replica_on_until_it_drains(
    start: Start, new_replica: NewReplica
) -> None:
    gateway = await start(linger_seconds=0)
    assert await ready(gateway) == 503
    replica = await gateway.add(new_replica("replica-0"))
    assert await ready(gateway) == 200
    await replica.kill()
    await gateway.until(lambda: not gateway.gateway.fleet.ready, what="the loss of the replica")
    assert await ready(gateway) == 200, "clients must reach somebody who tells them 503"
    await gateway.gateway.drain()
    assert await ready(gateway) == 503


async def test_a_gateway_that_no_replica_comes_to_says_so_itself(start: Start) -> None:
    gateway = await start(alone_seconds=0)
    assert await ready(gateway) == 200


async def test_an_idle_replica_is_asked_for_a_token(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(canary_idle_seconds=0.1)
    replica = await gateway.add(new_replica("replica-0"))
    await replica.until(lambda: len(canaries(replica)) >= 3, what="three canaries")


def canaries(replica: Any) -> list[str]:
    from coxswain_protocol.messages import Submit

    return [m.request.id for m in replica.messages(Submit) if m.request.id.startswith("canary")]


async def test_a_request_after_the_end_is_sent_elsewhere(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(linger_seconds=0)
    await gateway.add(new_replica("replica-0"))
    async with gateway.http.get(f"{gateway.url}/v1/models") as answer:
        assert answer.status == 200
    await gateway.gateway.drain()
    with pytest.raises((APIStatusError, aiohttp.ClientError)):
        status, error, _ = await gateway.post("/v1/completions", {"prompt": "a"})
        assert (status, error["error"]["code"]) == (503, "draining")
        raise aiohttp.ClientError
