"""A live run replayed in the simulator: a gateway, two native replicas on this machine's CPU, and Poisson requests.

`python -m benchmarks.live_replay [--requests 200] [--rate 3]` starts the processes, records the run with `--record`,
and has `coxswain-simulate validate` replay it; writes benchmarks/results/live_replay.md and .json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from rich.console import Console

from benchmarks.processes import running, wait_healthy, wait_port
from benchmarks.ready_replica import TOKEN
from benchmarks.rows import hardware, write
from coxswain_simulate.traces.recording import read
from coxswain_simulate.validate import compared, table
from e2e.cluster.ports import free_ports

RESULTS = Path(__file__).parent / "results"
ENGINE = {"num_blocks": 2048, "block_size": 16, "max_num_seqs": 16, "max_step_tokens": 256, "max_model_len": 2048}
REPLICAS = 2
PREFIXES = 6
"""Half of the requests begin with one of so many prefixes of 256 tokens."""


async def record(folder: Path, *, model: Path, requests: int, rate: float, seed: int) -> Path:
    """Run it live; the recording. Raises RuntimeError when a request fails, TimeoutError when nobody serves."""
    recording = folder / "recording.jsonl"
    api, wire, status = free_ports(3)
    flags = ["--service", "b", "--namespace", "b", "--model", "tiny", "--gateway", "g", "--host", "127.0.0.1"]
    flags += ["--port", str(api), "--replica-port", str(wire), "--status-port", str(status), "--linger-seconds", "0"]
    flags += ["--heartbeat-limit", "10", "--record", str(recording)]
    async with AsyncExitStack() as stack:
        python, env = sys.executable, {"COXSWAIN_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
        command = [python, "-m", "coxswain_gateway", *flags]
        await stack.enter_async_context(running("gateway", command, env=env))
        await wait_port(wire)
        for number in range(REPLICAS):
            command = [python, "-m", "benchmarks.live_replay", "--serve", f"replica-{number}"]
            command += ["--model", str(model), "--port", str(wire)]
            await stack.enter_async_context(running(f"replica-{number}", command, env=env))
        await wait_healthy(api)
        await _all_replicas(status)
        await _load(api, requests=requests, rate=rate, seed=seed)
    return recording


async def _all_replicas(port: int) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with asyncio.timeout(60), aiohttp.ClientSession(headers=headers) as http:
        while True:
            async with http.get(f"http://127.0.0.1:{port}/internal/status") as answer:
                members = (await answer.json())["members"]
            if sum(member["token_age"] is not None for member in members) == REPLICAS:
                return
            await asyncio.sleep(0.1)


async def _load(port: int, *, requests: int, rate: float, seed: int) -> None:
    """Poisson arrivals, prompts of 16 to 768 tokens, answers of 8 to 128."""
    rng = random.Random(seed)
    prefixes = [[rng.randrange(3, 4000) for _ in range(256)] for _ in range(PREFIXES)]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as http, asyncio.TaskGroup() as group:
        for _ in range(requests):
            await asyncio.sleep(rng.expovariate(rate))
            prompt = [rng.randrange(3, 4000) for _ in range(int(16 * 32 ** rng.random()))]
            if rng.random() < 0.5:
                prompt = rng.choice(prefixes) + prompt
            tokens = int(8 * 16 ** rng.random())
            group.create_task(_ask(http, port, prompt=prompt, tokens=tokens))


async def _ask(http: aiohttp.ClientSession, port: int, *, prompt: list[int], tokens: int) -> None:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True, "seed": 1}
    async with http.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as answer:
        text = await answer.text()
        if answer.status != 200 or "[DONE]" not in text:
            raise RuntimeError(f"a request failed with {answer.status}: {text[-300:]}")


async def _serve(name: str, *, model: Path, port: int) -> None:
    """A native engine on the wire, in this process, without Ray."""
    import torch

    from coxswain_workers.addresses import GatewayAddresses
    from coxswain_workers.engine.interface import EngineOptions
    from coxswain_workers.engine.native import load_native
    from coxswain_workers.engine.tokenizer import tokenizer_files
    from coxswain_workers.replica.replica import Replica
    from coxswain_workers.replica.settings import Settings

    torch.set_num_threads(1)
    addresses = GatewayAddresses.parse(f"127.0.0.1:{port}")
    settings = Settings(gateways=addresses, replica=name, model=str(model), token=TOKEN)
    engine = load_native(model, EngineOptions(device="cpu", **ENGINE))  # type: ignore[arg-type]
    await Replica(engine, settings=settings, tokenizer=tokenizer_files(model)).run()


def page(figures: dict[str, Any], *, command: str, machine: str) -> str:
    """The result as Markdown."""
    lines = [
        "# A live run, replayed in the simulator",
        "",
        f"Written by `{command}` on {time.strftime('%Y-%m-%d')}.",
        "",
        f"{machine}.",
        "",
        f"{figures['requests']} requests (Poisson, prompts of 16 to 768 tokens, half of them with one of {PREFIXES}"
        f" prefixes, answers of 8 to 128 tokens) through one gateway to {figures['engines']} native replicas of the"
        " tiny model, each on one thread; then the same requests, engines and policy in virtual time, with a line"
        " fitted to the recorded steps in place of the model. Times live are the gateway's own.",
        "",
        "| figure | live | simulated | error | at recorded speed | error |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, label in (("ttft_s", "first token"), ("inter_token_s", "mean between a request's tokens")):
        for share in ("p50", "p90"):
            cells = [_ms(figures[name]["live"][share])]
            for run in (figures, figures["at_recorded_speed"]):
                cells += [_ms(run[name]["simulated"][share]), f"{run[name]['error'][share]:+.1%}"]
            lines.append(f"| {label}, {share.upper()} | {' | '.join(cells)} |")
    cached, steps, timing, load = (figures[name] for name in ("cached_share", "steps", "timing", "load_average"))
    lines += [
        "",
        f"Prompt tokens found cached: {cached['live']:.1%} live, {cached['simulated']:.1%} simulated. A single step is"
        f" off the fitted line by {steps['relative_error']['p50']:.0%} in the median and"
        f" {steps['relative_error']['p90']:.0%} in the 90th percentile of {steps['count']:,} steps: other processes"
        f" share the machine (load average {load['before']:.1f} before the run, {load['after']:.1f} after it, on"
        f" {os.cpu_count()} cores that the gateway, both replicas and the client share too). Between two steps pass"
        f" {timing['between_steps'] * 1e3:.2f} ms.",
        "",
        "`at recorded speed` slows the simulated engines down second by second as the recorded ones were: what is left"
        " of an error there is the simulator's, not the machine's. For first tokens that is mostly what the simulator"
        " leaves out: a prompt sent at the end of a step misses the step that its engine has begun meanwhile, and two"
        " engines that compute at once take each other's core.",
        "",
    ]
    return "\n".join(lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_replay", description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rate", type=float, default=3.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where to keep the recording")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        uvloop.run(_serve(options.serve, model=options.model, port=options.port))
        return 0
    from examples.train_tiny_model import ensure_model

    model = options.model or ensure_model(Console(stderr=True))
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="coxswain-live-") as folder:
        made = record(Path(folder), model=model, requests=options.requests, rate=options.rate, seed=options.seed)
        recording = uvloop.run(made)
        if options.keep:
            options.keep.write_bytes(recording.read_bytes())
        figures = compared(read(recording))
    figures |= {"load_average": {"before": before, "after": os.getloadavg()[0]}, "rate": options.rate}
    Console().print(table(figures))
    write(RESULTS / "live_replay.json", json.dumps(figures, indent=2) + "\n")
    command = f"python -m benchmarks.live_replay --requests {options.requests} --rate {options.rate:g}"
    write(RESULTS / "live_replay.md", page(figures, command=command, machine=hardware()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
