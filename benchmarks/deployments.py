"""Measured deployments, and what a cost model says of them: clients that ask again as soon as they are answered."""

from __future__ import annotations

import csv
import math
import random
from collections import deque
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from coxswain_scheduler.costs.engine import EngineTiming
from coxswain_scheduler.costs.hardware import ACCELERATORS, Accelerator
from coxswain_scheduler.costs.model_shape import SHAPES, ModelShape
from coxswain_scheduler.costs.software import Software
from coxswain_scheduler.costs.timing import Timing, Work

FILE = Path(__file__).parent / "data" / "aiconfigurator_silicon" / "dense_h100_h200.csv"
STEP_TOKENS = 8192
"""The default of all three engines on these GPUs."""
WAVES = 10
"""Requests that each client sends."""
_MEMORY_SHARE = 0.9
_SHORTEST = {"llama-3-70b": 0.8}
"""Those rows are InferenceMAX's: lengths spread from 0.8 of the given ones (its RANDOM_RANGE_RATIO), 10 requests for
each client, all clients at once; and NVIDIA's FP8 checkpoint."""
_MODELS = {"Llama-3.1-8B": "llama-3-8b", "Llama-3.1-70B": "llama-3-70b", "Qwen3-32B": "qwen3-32b"}


class Latency(NamedTuple):
    """Means over requests, in seconds."""

    ttft: float
    tpot: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One row: a load, an engine, and what was measured. `prefill_workers` is 0 where one engine does both."""

    id: str
    software: str
    accelerator: str
    model: str
    weight_bytes: float
    kv_bytes: float
    prompt: int
    output: int
    concurrency: int
    """Of each engine that decodes."""
    parts: int
    prefill_parts: int = 0
    prefill_workers: int = 0
    decode_workers: int = 1
    measured: Latency

    @property
    def shape(self) -> ModelShape:
        """Its model, with its weights and KV."""
        return replace(SHAPES[self.model], weight_bytes=self.weight_bytes, kv_bytes=self.kv_bytes)

    @property
    def device(self) -> Accelerator:
        """Its GPU."""
        return ACCELERATORS[self.accelerator]


def deployments() -> list[Deployment]:
    """All rows."""
    with FILE.open(newline="", encoding="utf-8") as file:
        return [_deployment(row) for row in csv.DictReader(file)]


def predicted(row: Deployment, software: Software) -> Latency:
    """What the cost model says."""
    room = _MEMORY_SHARE * row.device.memory_bytes - row.shape.bytes_per_gpu(row.parts)
    capacity = int(room / row.shape.kv_bytes_per_gpu(row.parts))
    decode = EngineTiming(row.shape, row.device, tensor_parallel=row.parts, software=software)
    if row.prefill_workers:
        prefill = EngineTiming(row.shape, row.device, tensor_parallel=row.prefill_parts, software=software)
        return _apart(row, prefill, decode)
    return closed_loop(
        decode,
        prompt=row.prompt,
        output=row.output,
        concurrency=row.concurrency,
        room=max(1, capacity // (row.prompt + row.output)),
        mixes=row.software != "sglang",
        shortest=_SHORTEST.get(row.model, 1.0),
    )


def _apart(row: Deployment, prefill: Timing, decode: Timing) -> Latency:
    """Prefill and decode engines: requests that decoding leaves wait for a prefill (Little's law)."""
    steps = row.output - 1
    tpot = decode.decode_seconds(row.concurrency, row.concurrency * (row.prompt + 1), steps) / steps
    alone = prefill.seconds(Work(row.prompt, row.prompt * (row.prompt + 1) // 2))
    queued = row.concurrency * row.decode_workers * alone / row.prefill_workers - steps * tpot
    return Latency(max(alone, queued), tpot)


@dataclass(slots=True)
class _Asked:
    """A request that waits or is being prefilled."""

    arrival: float
    prompt: int
    output: int
    done: int = 0


def closed_loop(
    timing: Timing,
    *,
    prompt: int,
    output: int,
    concurrency: int,
    room: int,
    mixes: bool,
    shortest: float = 1.0,
    waves: int = WAVES,
) -> Latency:
    """Clients begin together, and each asks again when it is answered. `room` sequences fit at once.

    Prompts go first; with `mixes`, decodes continue in the same steps, without, they wait. Lengths are even from
    `shortest` of the given ones to these.
    """
    rng = random.Random(0)

    def ask(now: float) -> _Asked:
        return _Asked(now, *(rng.randint(math.ceil(shortest * most), most) for most in (prompt, output)))

    now, steps, context, left = 0.0, 0, 0, concurrency * (waves - 1)
    waiting = deque(ask(0.0) for _ in range(concurrency))
    running: list[tuple[int, float, int, int]] = []  # last step, time of the first token, output, all tokens
    first, rest = 0.0, 0.0
    while waiting or running:
        decodes = len(running)
        if not waiting or decodes >= room:
            count = running[0][0] - steps
            now += timing.decode_seconds(decodes, context, count)
            steps, context = steps + count, context + count * decodes
        else:
            budget = STEP_TOKENS - (decodes if mixes else 0)
            tokens, pairs, filled = _chunk(waiting, budget, room - decodes)
            now += timing.seconds(Work(tokens, pairs, decodes, context) if mixes else Work(tokens, pairs))
            if mixes:
                steps, context = steps + 1, context + decodes
            for _ in range(filled):
                asked = waiting.popleft()
                first += now - asked.arrival
                context += asked.prompt + 1
                heappush(running, (steps + asked.output - 1, now, asked.output, asked.prompt + asked.output))
        while running and running[0][0] <= steps:
            _, began, tokens_out, whole = heappop(running)
            rest += (now - began) / (tokens_out - 1)
            context -= whole
            if left:
                left -= 1
                waiting.append(ask(now))
    total = concurrency * waves
    return Latency(first / total, rest / total)


def _chunk(waiting: deque[_Asked], budget: int, room: int) -> tuple[int, int, int]:
    """One step's prompt tokens from the first `room` that wait: tokens, query-key pairs, prompts finished."""
    tokens = pairs = filled = 0
    for asked in islice(waiting, room):
        part = min(asked.prompt - asked.done, budget - tokens)
        tokens += part
        pairs += part * asked.done + part * (part + 1) // 2
        asked.done += part
        if asked.done < asked.prompt or tokens == budget:
            return tokens, pairs, filled + (asked.done == asked.prompt)
        filled += 1
    return tokens, pairs, filled


def _deployment(row: dict[str, str]) -> Deployment:
    apart = row["mode"] == "disagg"
    side = "decode_" if apart else ""
    quantised = bool(row["gemm_quant_mode"])
    own = row["model_path"].startswith("nvidia/") or "70B" in row["model_path"]
    one = Deployment(
        id=row["id"],
        software=row["backend"],
        accelerator=row["system"].removesuffix("_sxm"),
        model=next(shape for name, shape in _MODELS.items() if name in row["model_path"]),
        weight_bytes=1.0 if quantised else 2.0,
        kv_bytes=1.0 if quantised and own else 2.0,  # NVIDIA's own FP8 checkpoints have FP8 KV
        prompt=int(row["isl"]),
        output=int(row["osl"]),
        concurrency=int(row[f"{side}batch_size"]),
        parts=int(row[f"{side}tp_size"]),
        measured=Latency(float(row["silicon_ttft_ms"]) / 1e3, float(row["silicon_tpot_ms"]) / 1e3),
    )
    if not apart:
        return one
    return replace(
        one,
        prefill_parts=int(row["prefill_tp_size"]),
        prefill_workers=int(row["prefill_num_workers"]),
        decode_workers=int(row["decode_num_workers"]),
    )
