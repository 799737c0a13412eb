"""Streams under way: started, watched, and what they would be undisturbed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from coxswain_protocol.messages import EngineInfo
from e2e.compare import Outcome
from tests.gateway.conftest import MODEL, Running
from tests.gateway.scripted import ScriptedReplica, expected

TOKENS = 60


async def stream(gateway: Running, *, seed: int, tokens: int = TOKENS, **extra: Any) -> Outcome:
    """One streamed completion: its token ids and finish reason. Raises what the client raises."""
    events = await gateway.openai.completions.create(
        model=MODEL,
        prompt=[9, 8, seed],
        max_tokens=tokens,
        seed=seed,
        stream=True,
        extra_body={"return_token_ids": True, **extra},
    )
    ids: list[int] = []
    finish: str | None = None
    async for event in events:
        for choice in event.choices:
            assert finish is None, "something came after the end"
            ids += (choice.model_extra or {}).get("token_ids") or []
            finish = choice.finish_reason
    return Outcome(tuple(ids), finish)


def undisturbed(info: EngineInfo, seeds: Sequence[int], tokens: int = TOKENS) -> dict[str, Outcome]:
    return {
        str(seed): Outcome(
            tuple(expected((9, 8, seed), seed=seed, tokens=tokens, vocab_size=info.vocab_size)), "length"
        )
        for seed in seeds
    }


async def run_all(gateway: Running, seeds: Sequence[int], tokens: int = TOKENS) -> dict[str, Outcome]:
    outcomes = await asyncio.gather(*(stream(gateway, seed=seed, tokens=tokens) for seed in seeds))
    return {str(seed): outcome for seed, outcome in zip(seeds, outcomes, strict=True)}


async def busy(replica: ScriptedReplica, *, streams: int = 1, tokens: int = 5) -> None:
    """Until the replica runs so many streams, each with some tokens of its own."""

    def condition() -> bool:
        running = [r for r in replica.running.values() if len(r.output) - len(r.request.output) >= tokens]
        return len(running) >= streams

    await replica.until(condition, what=f"{streams} streams under way")
