"""What gateways tell of their traffic, and what the coordinator makes of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from coxswain_protocol.traffic import Traffic
from tests.coordinator.test_coordinator import status
from tests.gateway.conftest import NewReplica, Running, Start
from tests.gateway.streaming import busy

SECRET = {"Authorization": "Bearer secret"}


async def traffic(gateway: Running, since: str = "") -> Traffic:
    url = f"http://127.0.0.1:{gateway.ports.status}/internal/traffic"
    async with gateway.http.get(url, params={"since": since}, headers=SECRET) as answer:
        return msgspec.json.decode(await answer.read(), type=Traffic)


async def ask(gateway: Running, prompt: int, tokens: int) -> tuple[int, Any, Any]:
    return await gateway.post("/v1/completions", {"prompt": [5] * prompt, "max_tokens": tokens})


async def test_a_gateway_tells_who_came_how_far_they_are_and_how_long_answers_got(
    start: Start, new_replica: NewReplica
) -> None:
    gateway = await start(ttft_seconds=5, inter_token_seconds=0.1)
    replica = await gateway.add(new_replica("replica-0", info_max_step_tokens=256))
    nothing = await traffic(gateway)
    assert (nothing.arrivals, nothing.open, nothing.ended, nothing.failed) == ((), (), (), 0)
    kind = nothing.kinds[0]
    assert (kind.replicas, kind.kv_tokens, kind.max_num_seqs, kind.step_tokens) == (1, 1024 * 16, 64, 256)
    assert kind.cost.step > 0

    await ask(gateway, 7, 3)
    running = asyncio.create_task(ask(gateway, 11, 300))
    await busy(replica, streams=1, tokens=20)
    during = await traffic(gateway, nothing.cursor)
    assert (during.arrivals, [tokens for tokens, _ in during.ended]) == ((7, 11), [3])
    ((tokens, age),) = during.open
    assert 20 <= tokens < 300 and 0 < age < 30
    assert during.context == 11 + tokens

    assert (await running)[0] == 200
    after = await traffic(gateway, during.cursor)
    assert (after.arrivals, after.open, [tokens for tokens, _ in after.ended]) == ((), (), [300])
    again = await traffic(gateway, "another process.7")
    assert (again.arrivals, len(again.ended)) == ((7, 11), 2)


async def test_refused_requests_count_as_failed_and_the_page_needs_the_token(
    start: Start, new_replica: NewReplica
) -> None:
    gateway = await start(ttft_seconds=0.05)
    replica = await gateway.add(new_replica("replica-0"))
    replica.stuck = True
    asked = [asyncio.create_task(ask(gateway, 3, 2)) for _ in range(4)]
    await asyncio.sleep(0.4)
    replica.stuck = False
    statuses = [status for status, _, _ in await asyncio.gather(*asked)]
    seen = await traffic(gateway)
    assert seen.failed == statuses.count(429) > 0
    assert len(seen.ended) == statuses.count(200)
    async with gateway.http.get(f"http://127.0.0.1:{gateway.ports.status}/internal/traffic") as answer:
        assert answer.status == 401


@asynccontextmanager
async def coordinator(*gateways: Running, port: int, inter_token: str = "0.05") -> AsyncIterator[None]:
    addresses = ",".join(f"127.0.0.1:{gateway.ports.status}" for gateway in gateways)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "coxswain_workers.coordinator", "--service", "chat", "--gateways", addresses),
        *("--status-host", "127.0.0.1", "--status-port", str(port), "--recommend-seconds", "0.2"),
        *("--ttft-seconds", "5", "--inter-token-seconds", inter_token, "--startup-seconds", "1"),
        env={**os.environ, "COXSWAIN_TOKEN": "secret"},
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_the_coordinator_recommends_replicas_for_all_gateways_together(
    start: Start, new_replica: NewReplica, unused_tcp_port: int
) -> None:
    one, two = await start(), await start(gateway="gateway-1")
    for gateway in (one, two):
        await gateway.add(new_replica("replica-0", info_max_num_seqs=4, step_seconds=0.01))
    async with coordinator(one, two, port=unused_tcp_port):
        found = await recommended(unused_tcp_port, lambda replicas: replicas == 1, "one replica while idle")
        assert "per engine" in found
        asked = [asyncio.create_task(ask(gateway, 5, 400)) for gateway in (one, two) for _ in range(12)]
        why = await recommended(unused_tcp_port, lambda replicas: replicas >= 6, "replicas for 24 streams, 4 in each")
        assert "3.6 per engine" in why
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{unused_tcp_port}/metrics") as answer:
                assert "coxswain_service_recommended_replicas" in await answer.text()
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_no_number_of_replicas_is_recommended_for_what_one_cannot_do_alone(
    start: Start, new_replica: NewReplica, unused_tcp_port: int
) -> None:
    gateway = await start()
    await gateway.add(new_replica("replica-0", step_seconds=0.01))
    await ask(gateway, 5, 40)
    async with coordinator(gateway, port=unused_tcp_port, inter_token="0.0001"):
        await status(unused_tcp_port, lambda s: len(s.members) == 1, "a round", token="secret")
        await asyncio.sleep(1)
        assert (await status(unused_tcp_port, lambda s: True, "a status", token="secret")).recommended is None


async def recommended(port: int, enough: Any, what: str) -> str:
    found = await status(
        port, lambda s: s.recommended is not None and enough(s.recommended.replicas), what, token="secret"
    )
    assert found.recommended is not None
    return found.recommended.why
