"""`python -m coxswain_gateway` as a process: its flags, its log, and its orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
from openai import AsyncOpenAI

from e2e.cluster.ports import free_ports
from tests.gateway.conftest import MODEL, NewReplica
from tests.gateway.streaming import busy


class Process:
    """`python -m coxswain_gateway` on free ports."""

    def __init__(self, log: Path) -> None:
        self.api, self.replicas, self.status = free_ports(3)
        self.log = log

    async def start(self) -> None:
        flags: dict[str, object] = {"service": "chat", "namespace": "default", "model": MODEL, "gateway": "gateway-0"}
        flags |= {"host": "127.0.0.1", "linger-seconds": "0.5", "replay": "Exact"}
        flags |= {"port": self.api, "replica-port": self.replicas, "status-port": self.status}
        arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        with self.log.open("wb") as stderr:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "coxswain_gateway", *arguments,
                stderr=stderr, env={**os.environ, "COXSWAIN_TOKEN": "secret"},
            )  # fmt: skip
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"http://127.0.0.1:{self.status}/live") as answer:
                        assert answer.status == 200
                        return
                except aiohttp.ClientError:
                    assert self.process.returncode is None, self.log.read_text()
                    await asyncio.sleep(0.02)


async def health(http: aiohttp.ClientSession, process: Process) -> int:
    async with http.get(f"http://127.0.0.1:{process.api}/health") as answer:
        return answer.status


async def test_sigterm_finishes_what_was_accepted(tmp_path: Path, new_replica: NewReplica) -> None:
    process = Process(tmp_path / "log")
    await process.start()
    replica = new_replica("replica-0", step_seconds=0.01)
    url = f"http://127.0.0.1:{process.api}/v1"
    try:
        await replica.connect(process.replicas)
        async with aiohttp.ClientSession() as http, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            async with asyncio.timeout(10):
                while await health(http, process) != 200:  # noqa: ASYNC110 - another process, or any state at all, is watched
                    await asyncio.sleep(0.01)
            stream = await client.completions.create(model=MODEL, prompt="a", max_tokens=150, seed=1, stream=True)
            await busy(replica)
            process.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                while await health(http, process) != 503:  # noqa: ASYNC110 - another process, or any state at all, is watched
                    await asyncio.sleep(0.01)
            late = await client.completions.create(model=MODEL, prompt="b", max_tokens=1)
            assert late.choices[0].finish_reason == "length", "endpoints had not caught up yet, and it was refused"
            finish = [event.choices[0].finish_reason async for event in stream]
            assert finish[-1] == "length"
        assert await asyncio.wait_for(process.process.wait(), 10) == 0
    finally:
        if process.process.returncode is None:
            process.process.kill()
            await process.process.wait()
        await replica.kill()
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    assert all({"time", "level", "message", "gateway"} <= set(line) for line in lines)
    assert any(line["message"] == "request done" and line["replica"] == ["replica-0"] for line in lines)


async def test_flags_are_checked(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COXSWAIN_TOKEN"}
    arguments = ["--service", "a", "--namespace", "b", "--model", "c", "--gateway", "d"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "coxswain_gateway", *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert stderr.startswith(b"coxswain_gateway: COXSWAIN_TOKEN is not set")
