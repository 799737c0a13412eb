"""The whole path in one process: openai client, gateway, wire, replica, native engine. And one of two replicas dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from coxswain_workers.addresses import GatewayAddresses
from coxswain_workers.engine.interface import EngineOptions
from coxswain_workers.engine.native import load_native
from coxswain_workers.engine.tokenizer import tokenizer_files
from coxswain_workers.replica.replica import Replica
from coxswain_workers.replica.settings import Settings
from e2e.compare import Outcome, compare
from tests.checkpoints import write_checkpoint
from tests.gateway.conftest import MODEL, Running, Start

OPTIONS = EngineOptions(num_blocks=256, block_size=16, max_num_seqs=16, max_step_tokens=64)
STREAMS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "sampled": {"temperature": 0.9, "seed": 7},
    "truncated": {"temperature": 1.2, "top_p": 0.9, "seed": 8, "extra_body": {"top_k": 40, "min_p": 0.01}},
    "penalised": {"presence_penalty": 0.5, "frequency_penalty": 0.3, "seed": 9},
    "repeating": {"temperature": 0.7, "seed": 10, "extra_body": {"repetition_penalty": 1.3}},
    "with logprobs": {"temperature": 0.8, "seed": 11, "logprobs": 3},
}


class Served:
    """A native engine on the wire, without Ray."""

    def __init__(self, name: str, checkpoint: Path, port: int) -> None:
        settings = Settings(
            gateways=GatewayAddresses.parse(f"127.0.0.1:{port}"), replica=name, model=str(checkpoint), token="secret"
        )
        self.name = name
        self.replica = Replica(
            load_native(checkpoint, OPTIONS), settings=settings, tokenizer=tokenizer_files(checkpoint)
        )
        self.task = asyncio.create_task(self.replica.run())

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def served(start: Start, checkpoint: Path) -> AsyncIterator[tuple[Running, list[Served]]]:
    gateway = await start(heartbeat_limit=2.0)
    replicas = [Served(f"replica-{number}", checkpoint, gateway.ports.replicas) for number in range(2)]
    members = gateway.gateway.fleet.members
    await gateway.until(lambda: sum(m.proved for m in members) == 2, what="both to serve", timeout=30)
    yield gateway, replicas
    for replica in replicas:
        await replica.kill()


async def stream(gateway: Running, name: str, seen: dict[str, int]) -> tuple[Outcome, str]:
    fields = STREAMS[name]
    extra = {"return_token_ids": True, "ignore_eos": True} | fields.get("extra_body", {})
    asked: dict[str, Any] = {"model": MODEL, "prompt": f"The {name} crew", "max_tokens": 60, "stream": True}
    events = await gateway.openai.completions.create(**(asked | fields | {"extra_body": extra}))
    tokens: list[int] = []
    text, finish = "", None
    async for event in events:
        choice = event.choices[0]
        tokens += choice.model_extra["token_ids"]
        text += choice.text
        finish = choice.finish_reason
        seen[name] = len(tokens)
    return Outcome(tuple(tokens), finish), text


async def run_all(gateway: Running, seen: dict[str, int]) -> dict[str, tuple[Outcome, str]]:
    results = await asyncio.gather(*(stream(gateway, name, seen) for name in STREAMS))
    return dict(zip(STREAMS, results, strict=True))


async def test_streams_of_a_killed_replica_go_on_bit_for_bit(served: tuple[Running, list[Served]]) -> None:
    gateway, replicas = served
    undisturbed = await run_all(gateway, {})
    seen: dict[str, int] = {}
    running = asyncio.create_task(run_all(gateway, seen))
    await gateway.until(lambda: len(seen) == len(STREAMS) and min(seen.values()) >= 10, what="10 tokens each")
    fleet = gateway.gateway.fleet
    struck = {member.replica: fleet.streams.count(member) for member in fleet.members}
    victim = max(replicas, key=lambda replica: struck[replica.name])
    assert struck[victim.name] > 0
    await victim.kill()
    disturbed = await running
    verdict = compare({n: o for n, (o, _) in disturbed.items()}, {n: o for n, (o, _) in undisturbed.items()})
    assert verdict.clean, verdict
    assert {n: text for n, (_, text) in disturbed.items()} == {n: text for n, (_, text) in undisturbed.items()}
    status = await gateway.status()
    assert (status.replays, status.lost) == (struck[victim.name], 0)
    assert await gateway.metric("coxswain_inexact_replays_total") == 0


async def test_a_draining_replica_is_left(served: tuple[Running, list[Served]]) -> None:
    gateway, replicas = served
    undisturbed = await run_all(gateway, {})
    seen: dict[str, int] = {}
    running = asyncio.create_task(run_all(gateway, seen))
    await gateway.until(lambda: len(seen) == len(STREAMS) and min(seen.values()) >= 5, what="5 tokens each")
    await replicas[0].replica.drain(20)
    disturbed = await running
    assert compare({n: o for n, (o, _) in disturbed.items()}, {n: o for n, (o, _) in undisturbed.items()}).clean
    await asyncio.wait_for(replicas[0].task, 10)


async def test_a_chat_with_usage_and_a_cached_prefix(served: tuple[Running, list[Served]]) -> None:
    gateway, _ = served
    messages: Any = [{"role": "user", "content": "Who steers the boat? " * 8}]
    answers = [
        await gateway.openai.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, seed=1)
        for _ in range(2)
    ]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    usage = answers[1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens_details.cached_tokens or 0) >= 16
