"""Replicas that are asked to go: their streams go elsewhere, or end where they are."""

from __future__ import annotations

import asyncio

from coxswain_protocol.messages import EngineInfo
from e2e.compare import compare
from tests.gateway.conftest import NewReplica, Running, Start
from tests.gateway.streaming import busy, run_all, stream, undisturbed


async def test_streams_leave_with_a_draining_replica(gateway: Running, info: EngineInfo) -> None:
    running = asyncio.create_task(run_all(gateway, range(8), tokens=300))
    leaver, other = gateway.replicas
    await busy(leaver, streams=2)
    leaver.leave(30)
    await busy(other, streams=8)
    await leaver.until(lambda: not leaver.running, what="it to be empty")
    before = len(leaver.submitted)
    assert compare(await running, undisturbed(info, range(8), 300)).clean
    await stream(gateway, seed=99)
    assert len(leaver.submitted) == before
    assert "Draining" in {m.state for m in (await gateway.status()).members}
    assert await gateway.metric("coxswain_stream_gap_seconds_count") >= 2, "their pause was not measured"


async def test_onDrain_finish_lets_streams_end_where_they_are(gateway: Running, info: EngineInfo) -> None:  # noqa: N802
    running = asyncio.create_task(run_all(gateway, range(8), tokens=100))
    leaver = gateway.replicas[0]
    await busy(leaver, streams=2)
    leaver.leave(30, finish=True)
    assert compare(await running, undisturbed(info, range(8), 100)).clean
    assert (await gateway.status()).replays == 0


async def test_without_the_same_weights_streams_stay_until_time_is_up(
    start: Start, new_replica: NewReplica, info: EngineInfo
) -> None:
    gateway = await start()
    leaver = await gateway.add(new_replica("replica-0"))
    short = asyncio.create_task(stream(gateway, seed=1, tokens=40))
    long = asyncio.create_task(stream(gateway, seed=2, tokens=1500))
    await busy(leaver, streams=2, tokens=2)
    other = await gateway.add(new_replica("replica-1", info_weights_digest="w2"))
    leaver.leave(1.5)
    outcomes = {"1": await short}
    assert compare(outcomes, undisturbed(info, [1], 40)).clean
    assert not other.submitted
    assert (await long).finish == "length"
    assert [request.id.split("#")[1] for request in other.submitted] == ["2"]
    assert await gateway.metric("coxswain_inexact_replays_total") == 1


async def test_with_nowhere_to_go_a_stream_stays_to_the_end(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    leaver = await gateway.add(new_replica("replica-0"))
    running = asyncio.create_task(stream(gateway, seed=1, tokens=200))
    await busy(leaver)
    leaver.leave(0.1)
    assert (await running).finish == "length"
    assert (await gateway.status()).replays == 0
