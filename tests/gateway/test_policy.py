"""The policy decides where a request goes and when; whatever it decides, no accepted request is lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from coxswain_protocol.messages import EngineInfo
from coxswain_simulate.traces.recording import read
from e2e.compare import compare
from tests.gateway.conftest import NewReplica, Running, Start
from tests.gateway.scripted import ScriptedReplica
from tests.gateway.streaming import busy, run_all, stream, undisturbed

Answer = tuple[int, Any, Any]


async def queued(gateway: Running, count: int, *, streamed: bool = False) -> list[asyncio.Task[Answer]]:
    """So many requests before a replica that does nothing: it is given one, the others wait in the gateway."""
    body = {"prompt": [5, 6, 7], "max_tokens": 2, "stream": streamed}
    asked = [asyncio.create_task(gateway.post("/v1/completions", body)) for _ in range(count)]
    await gateway.until(lambda: len(gateway.gateway.fleet.cluster.waiting) == count - 1, what="a queue")
    return asked


async def stuck(start: Start, new_replica: NewReplica, **settings: Any) -> tuple[Running, ScriptedReplica]:
    gateway = await start(**settings)
    replica = await gateway.add(new_replica("replica-0"))
    replica.stuck = True
    return gateway, replica


async def test_what_cannot_be_in_time_gets_429_and_a_time_to_come_again(start: Start, new_replica: NewReplica) -> None:
    gateway, replica = await stuck(start, new_replica, ttft_seconds=0.05)
    asked = await queued(gateway, 4)
    await asyncio.sleep(0.3)
    replica.stuck = False
    answers = await asyncio.gather(*asked)
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused
    assert len(refused) + len(replica.submitted) == 4
    for _, body, headers in refused:
        assert (body["error"]["type"], body["error"]["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "in time" in body["error"]["message"]
        assert int(headers["Retry-After"]) >= 1
    assert [status for status, _, _ in answers if status != 429] == [200] * len(replica.submitted)
    assert gateway.gateway.fleet.ledger.live == 0
    assert (await gateway.status()).lost == 0


async def test_what_waits_goes_in_the_order_of_vllms_priorities(start: Start, new_replica: NewReplica) -> None:
    gateway, replica = await stuck(start, new_replica)
    asked = await queued(gateway, 1)
    for priority in (1, 0, None, -1, 2, -7):
        body = {"prompt": [100 + (priority or 0)], "max_tokens": 2, "priority": priority}
        asked.append(asyncio.create_task(gateway.post("/v1/completions", body)))
        await gateway.until(lambda: len(gateway.gateway.fleet.cluster.waiting) == len(asked) - 1, what="its queueing")
    replica.stuck = False
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * len(asked)
    assert [request.prompt[0] - 100 for request in replica.submitted[1:]] == [-7, -1, 0, 0, 1, 2]


async def test_batch_work_runs_beside_others_whose_objective_is_missed(start: Start, new_replica: NewReplica) -> None:
    gateway = await start(inter_token_seconds=0.0001)
    replica = await gateway.add(new_replica("replica-0"))
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 300, "priority": 5}
    batch = asyncio.create_task(gateway.post("/v1/chat/completions", chat))
    await busy(replica, streams=1, tokens=20)
    status, body, _ = await gateway.post("/v1/completions", {"prompt": [5, 6], "max_tokens": 100})
    assert (status, body["usage"]["completion_tokens"]) == (200, 100)
    assert not batch.done()
    status, body, _ = await batch
    assert (status, body["usage"]["completion_tokens"]) == (200, 300)
    assert (await gateway.status()).replays == 0


async def test_without_objectives_nothing_is_refused(start: Start, new_replica: NewReplica) -> None:
    gateway, replica = await stuck(start, new_replica)
    asked = await queued(gateway, 4)
    await asyncio.sleep(0.3)
    replica.stuck = False
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 4


async def test_a_client_that_leaves_the_queue_is_never_sent(start: Start, new_replica: NewReplica) -> None:
    gateway, replica = await stuck(start, new_replica)
    asked = await queued(gateway, 3)
    asked[1].cancel()
    await gateway.until(lambda: len(gateway.gateway.fleet.cluster.waiting) == 1, what="its leaving")
    replica.stuck = False
    await asyncio.gather(asked[0], asked[2])
    assert len(replica.submitted) == 2


async def test_what_waits_is_held_while_all_replicas_are_gone(start: Start, new_replica: NewReplica) -> None:
    gateway, replica = await stuck(start, new_replica)
    asked = await queued(gateway, 3)
    await replica.kill()
    await gateway.until(lambda: gateway.gateway.fleet.streams.held == 3, what="all to be held")
    await gateway.add(new_replica("replica-1"))
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 3


async def test_an_accepted_request_is_not_refused_for_the_death_of_its_replica(
    start: Start, new_replica: NewReplica
) -> None:
    gateway, replica = await stuck(start, new_replica, ttft_seconds=0.05)
    asked = (await queued(gateway, 1))[0]
    await replica.until(lambda: len(replica.submitted) == 1, what="the request")
    await asyncio.sleep(0.3)
    await replica.kill()
    await gateway.add(new_replica("replica-1"))
    assert (await asked)[0] == 200


async def test_a_stream_goes_on_only_where_it_goes_on_bit_for_bit(
    start: Start, new_replica: NewReplica, info: EngineInfo
) -> None:
    gateway = await start()
    victim = await gateway.add(new_replica("replica-0"))
    seeds = range(4)
    running = asyncio.create_task(run_all(gateway, seeds, tokens=300))
    await busy(victim, streams=4)
    other = await gateway.add(new_replica("replica-1", info_accelerator="l40s"))
    same = await gateway.add(new_replica("replica-2"))
    await victim.kill()
    assert compare(await running, undisturbed(info, seeds, 300)).clean
    assert (len(other.submitted), len(same.submitted)) == (0, 4)
    assert await gateway.metric("coxswain_inexact_replays_total") == 0


async def test_a_recording_says_what_happened(start: Start, new_replica: NewReplica, tmp_path: Path) -> None:
    path = tmp_path / "recording.jsonl"
    gateway = await start(record=path)
    await gateway.add(new_replica("replica-0", info_max_step_tokens=256))
    await stream(gateway, seed=1, tokens=20)
    await gateway.gateway.stop()
    recording = read(path)
    assert [one.replica for one in recording.engines] == ["replica-0"]
    request = recording.requests[0]
    assert (request.prompt_tokens, request.output_tokens, request.outcome) == (3, 20, "length")
    assert request.arrival < (request.first_token or 0) < (request.last_token or 0)
    assert sum(step.decodes for step in recording.steps) >= 20
    assert json.loads(path.read_text().splitlines()[0])["policy"] == "coxswain"


async def test_a_replica_that_hangs_does_not_hold_up_what_another_can_do(start: Start, new_replica: NewReplica) -> None:
    gateway, replica = await stuck(start, new_replica)
    asked = (await queued(gateway, 1))[0]
    await replica.until(lambda: len(replica.submitted) == 1, what="the request")
    await gateway.add(new_replica("replica-1"))
    for _ in range(4):
        async with asyncio.timeout(3):
            await gateway.post("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 2})
    assert len(replica.submitted) == 1
    replica.stuck = False
    await asked
