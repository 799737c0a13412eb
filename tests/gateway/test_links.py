"""Who may dial in, and what happens to those who may not."""

from __future__ import annotations

import asyncio

import pytest

from coxswain_gateway.members import AttentiveClock
from coxswain_protocol.framing import encode
from coxswain_protocol.messages import Beat, Refused, Welcome
from tests.gateway.conftest import NewReplica, Running, Start
from tests.gateway.scripted import ScriptedReplica


async def refusal(gateway: Running, replica: ScriptedReplica) -> str:
    await replica.connect(gateway.ports.replicas)
    await replica.until(lambda: bool(replica.messages(Refused)), what="a refusal")
    await asyncio.wait_for(replica.closed.wait(), 5)
    (message,) = replica.messages(Refused)
    assert isinstance(message, Refused)
    return message.reason


async def test_a_wrong_token_is_refused(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    assert "token" in await refusal(gateway, new_replica("intruder", token="guess"))
    assert len(gateway.gateway.fleet.members) == 0


async def test_another_version_is_refused(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    assert await refusal(gateway, new_replica("old", protocol=0)) == "protocol version 0 is not 1"


async def test_an_unusable_tokenizer_is_refused(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    replica = new_replica("replica-0")
    replica.files = {"tokenizer.json": b"{"}
    assert "tokenizer.json cannot be read" in await refusal(gateway, replica)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, encode(Beat(1))])
async def test_what_is_not_a_replica_is_cut_off(start: Start, garbage: bytes) -> None:
    gateway = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports.replicas)
    writer.write(garbage)
    await asyncio.wait_for(reader.read(-1), 5)
    writer.close()
    assert len(gateway.gateway.fleet.members) == 0


async def test_a_tokenizer_is_sent_once(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    wanted = []
    for name in ("replica-0", "replica-1"):
        (welcome,) = (await gateway.add(new_replica(name))).messages(Welcome)
        assert isinstance(welcome, Welcome)
        wanted.append(welcome.wants_tokenizer)
    assert wanted == [True, False]


async def test_gateways_beat(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    replica = await gateway.add(new_replica("replica-0"))
    await replica.until(lambda: bool(replica.messages(Beat)), what="a beat")


async def test_a_gateway_that_stood_still_blames_nobody(start: Start, new_replica: NewReplica) -> None:
    import time

    gateway = await start(heartbeat_limit=0.4)
    await gateway.add(new_replica("replica-0"))
    time.sleep(1.5)  # noqa: ASYNC251 - the very fault: the gateway's own loop stands still
    await gateway.until(lambda: gateway.gateway.fleet.statistics.loop_lag > 1, what="a tick")
    assert gateway.gateway.fleet.statistics.heartbeat_losses == 0


def test_only_attentive_time_counts() -> None:
    clock = AttentiveClock(now=100.0, period=0.05)
    clock.tick(100.05)
    clock.tick(102.05)
    assert clock.now == pytest.approx(0.15)
    assert clock.lag == pytest.approx(1.9)
