"""Replicas die, lie and fall silent; the client sees one stream with the tokens it would have had anyway."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from openai import APIError

from coxswain_protocol.messages import Chunk, EngineInfo, Finish, Refused
from e2e.compare import Outcome, compare
from tests.gateway.conftest import MODEL, NewReplica, Running, Start
from tests.gateway.scripted import ScriptedReplica
from tests.gateway.streaming import busy, run_all, stream, undisturbed


async def asked(replica: ScriptedReplica) -> None:
    await replica.until(lambda: bool(replica.submitted), what="a request")


async def test_a_killed_replica_costs_no_stream_and_no_token(gateway: Running, info: EngineInfo) -> None:
    seeds = range(20)
    running = asyncio.create_task(run_all(gateway, seeds))
    victim = gateway.replicas[0]
    await busy(victim, streams=5)
    await victim.kill()
    assert compare(await running, undisturbed(info, seeds)).clean
    status = await gateway.status()
    assert status.replays >= 5
    assert status.lost == 0
    assert await gateway.metric("coxswain_replayed_tokens_total") >= 25
    assert await gateway.metric("coxswain_stream_gap_seconds_count") >= 5
    assert await gateway.metric("coxswain_inexact_replays_total") == 0
    await gateway.until(lambda: gateway.gateway.fleet.ledger.live == 0, what="every stream to be over")


async def test_a_closed_connection_is_a_loss_only_after_silence(gateway: Running) -> None:
    victim = gateway.replicas[0]
    await victim.kill()
    member = next(m for m in gateway.gateway.fleet.members if m.replica == victim.name)
    await gateway.until(lambda: member.link is None, what="the gateway to notice")
    assert member.state == "Ready"
    await gateway.until(lambda: member.state == "Lost", what="the member to be lost")
    assert [m.state for m in (await gateway.status()).members if m.replica == victim.name] == ["Lost"]


async def test_a_false_alarm_costs_a_replay_and_no_stream(gateway: Running, info: EngineInfo) -> None:
    seeds = range(8)
    running = asyncio.create_task(run_all(gateway, seeds, tokens=400))
    silent, other = gateway.replicas
    await busy(silent, streams=2)
    attempts = set(silent.running)
    silent.silent = True
    await gateway.until(lambda: gateway.gateway.fleet.statistics.heartbeat_losses == 1, what="the alarm")
    await busy(other, streams=8)
    silent.heal()
    await gateway.until(lambda: all(m.state == "Ready" for m in gateway.gateway.fleet.members), what="its return")
    assert compare(await running, undisturbed(info, seeds, 400)).clean
    assert attempts <= set(silent.aborted)
    assert not silent.running
    assert await gateway.metric("coxswain_stale_chunks_total") > 0


async def test_duplicates_drop_out(start: Start, new_replica: NewReplica, info: EngineInfo) -> None:
    def twice_and_again(chunk: Chunk) -> list[Chunk]:
        sent.append(chunk)
        overlapping = [c for c in sent if c.id == chunk.id][-3:]
        tokens = tuple(token for c in overlapping for token in c.tokens)
        return [chunk, Chunk(chunk.id, overlapping[0].start, tokens)] if chunk.finish is None else [chunk]

    sent: list[Chunk] = []
    gateway = await start()
    await gateway.add(new_replica("replica-0", tamper=twice_and_again))
    assert compare(await run_all(gateway, [1, 2]), undisturbed(info, [1, 2])).clean
    assert (await gateway.status()).replays == 0


async def test_a_gap_is_an_error_of_the_replica(start: Start, new_replica: NewReplica, info: EngineInfo) -> None:
    def skip(chunk: Chunk) -> list[Chunk]:
        return [] if chunk.start == 10 and not chunk.id.startswith("canary") else [chunk]

    gateway = await start()
    await gateway.add(new_replica("replica-0", tamper=skip))
    running = asyncio.create_task(run_all(gateway, [1, 2, 3]))
    await busy(gateway.replicas[0], streams=3, tokens=2)
    await gateway.add(new_replica("replica-1"))
    assert compare(await running, undisturbed(info, [1, 2, 3])).clean
    assert (await gateway.status()).replays == 3


@pytest.mark.parametrize("fault", ["wrong token", "dropped stream", "cut short"])
async def test_the_demos_comparison_sees_injected_faults(
    start: Start, new_replica: NewReplica, info: EngineInfo, fault: str
) -> None:
    def tamper(chunk: Chunk) -> list[Chunk]:
        if chunk.start == 30 and fault == "wrong token":
            return [msgspec.structs.replace(chunk, tokens=(chunk.tokens[0] ^ 1,))]
        if chunk.start == 30 and fault == "cut short":
            return [msgspec.structs.replace(chunk, finish=Finish("stop"))]
        if chunk.start >= 30 and fault == "dropped stream":
            return [Chunk(chunk.id, chunk.start, (), finish=Finish("error", "out of memory"))]
        return [chunk]

    gateway = await start()
    await gateway.add(new_replica("replica-0", tamper=tamper))
    disturbed: dict[str, Outcome] = {}
    try:
        disturbed["1"] = await stream(gateway, seed=1)
    except APIError:
        assert fault == "dropped stream"
    verdict = compare(disturbed, undisturbed(info, [1]))
    assert verdict.different == (("1",) if fault == "wrong token" else ())
    assert verdict.lost == (() if fault == "wrong token" else ("1",))


async def test_another_accelerator_is_a_counted_fallback(start: Start, new_replica: NewReplica) -> None:
    gateway = await start()
    victim = await gateway.add(new_replica("replica-0"))
    running = asyncio.create_task(stream(gateway, seed=1, tokens=200))
    await busy(victim)
    await gateway.add(new_replica("replica-1", info_accelerator="l40s"))
    await victim.kill()
    assert (await running).finish == "length"
    assert await gateway.metric("coxswain_inexact_replays_total") == 1


async def test_another_tokenizer_is_no_place_to_go(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(hold_seconds=0.5)
    victim = await gateway.add(new_replica("replica-0"))
    running = asyncio.create_task(stream(gateway, seed=1, tokens=200))
    await busy(victim)
    other = await gateway.add(new_replica("replica-1", info_tokenizer_digest="t2"))
    await victim.kill()
    with pytest.raises(APIError, match="no replica could take it"):
        await running
    assert not other.submitted


async def test_held_streams_go_on_when_a_replica_comes(start: Start, new_replica: NewReplica, info: EngineInfo) -> None:
    gateway = await start()
    victim = await gateway.add(new_replica("replica-0"))
    running = asyncio.create_task(run_all(gateway, [1, 2]))
    await busy(victim, streams=2)
    await victim.kill()
    await gateway.until(lambda: gateway.gateway.fleet.streams.held == 2, what="both to be held")
    await gateway.add(new_replica("replica-1"))
    assert compare(await running, undisturbed(info, [1, 2])).clean


async def test_held_clients_see_comments_and_at_last_an_error(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(hold_seconds=0.3)
    victim = await gateway.add(new_replica("replica-0"))
    body = {"model": MODEL, "prompt": "a", "max_tokens": 500, "stream": True}
    async with gateway.http.post(f"{gateway.url}/v1/completions", json=body) as answer:
        await busy(victim)
        await victim.kill()
        lines = [line async for line in answer.content]
    assert b": waiting for a replica\n" in lines
    assert b"no replica could take it for 0.3 s" in lines[-4]
    assert lines[-2] == b"data: [DONE]\n"
    assert (await gateway.status()).lost == 1
    assert await gateway.metric("coxswain_lost_requests_total") == 1


async def test_replay_off_ends_the_stream_with_an_error(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(replay="Disabled")
    victim = await gateway.add(new_replica("replica-0"))
    await gateway.add(new_replica("replica-1"))
    running = [asyncio.create_task(stream(gateway, seed=seed, tokens=300)) for seed in range(6)]
    await busy(victim, streams=1)
    await victim.kill()
    ended = await asyncio.gather(*running, return_exceptions=True)
    assert any(isinstance(end, APIError) and "does not replay" in end.message for end in ended)
    assert any(isinstance(end, Outcome) and end.finish == "length" for end in ended)


async def test_a_restarted_engine_replaces_its_former_self(
    gateway: Running, new_replica: NewReplica, info: EngineInfo
) -> None:
    running = asyncio.create_task(run_all(gateway, range(6), tokens=300))
    former = gateway.replicas[0]
    await busy(former, streams=2)
    await gateway.add(new_replica("replica-0", incarnation="2"))
    assert compare(await running, undisturbed(info, range(6), 300)).clean
    await asyncio.wait_for(former.closed.wait(), 5)
    incarnations = [(m.replica, m.incarnation) for m in gateway.gateway.fleet.members]
    assert sorted(incarnations) == [("replica-0", "2"), ("replica-1", "1")]
    again = new_replica("replica-0", incarnation="1")
    await again.connect(gateway.ports.replicas)
    assert again.messages(Refused)


async def test_a_request_that_kills_its_replicas_is_given_up(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(hold_seconds=30)
    running = asyncio.create_task(stream(gateway, seed=1))
    for number in range(5):
        replica = await gateway.add(new_replica(f"replica-{number}", tamper=lambda c: [] if "can" not in c.id else [c]))
        if running.done():
            running = asyncio.create_task(stream(gateway, seed=1))
        await asked(replica)
        await replica.kill()
    with pytest.raises(APIError, match="5 replicas in a row were lost"):
        await running


async def test_two_gateways_share_their_replicas(start: Start, new_replica: NewReplica, info: EngineInfo) -> None:
    first, second = await start(gateway="gateway-0"), await start(gateway="gateway-1")
    for gateway in (first, second):
        for name in ("replica-0", "replica-1"):
            await gateway.add(new_replica(name))
    running = [asyncio.create_task(run_all(gateway, range(6))) for gateway in (first, second)]
    await busy(first.replicas[0])
    await first.replicas[0].kill()
    for outcome in await asyncio.gather(*running):
        assert compare(outcome, undisturbed(info, range(6))).clean
    assert (await second.status()).replays == 0


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_every_engine_gives_up_is_an_error_with_its_words(
    start: Start, new_replica: NewReplica, streamed: bool
) -> None:
    def give_up(chunk: Chunk) -> list[Chunk]:
        if chunk.id.startswith("canary"):
            return [chunk]
        return [Chunk(chunk.id, 0, (), finish=Finish("error", "out of memory"))]

    gateway = await start()
    for name in ("replica-0", "replica-1"):
        await gateway.add(new_replica(name, tamper=give_up))
    body = {"prompt": "a", "stream": streamed}
    status, error, _ = await gateway.post("/v1/completions", body)
    assert (status, error["error"]["code"]) == (500, "engine_error")
    assert "out of memory" in error["error"]["message"]
    assert [len(replica.submitted) for replica in gateway.replicas] == [1, 1], "it was not tried elsewhere"
