"""The Pod's process, with Ray: what the kubelet and the gateways see of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from coxswain_protocol.messages import Leaving
from tests.checkpoints import write_checkpoint
from tests.replica.gateway import TOKEN, TestGateway, request

START_SECONDS = 90.0


@asynccontextmanager
async def replica(*flags: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process; its log goes to a file. It is dead afterwards, and its children with it."""
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "coxswain_workers.replica", "--replica", "chat-serve-0-1", *flags),
            env={**os.environ, "COXSWAIN_TOKEN": TOKEN, "TMPDIR": str(log.parent), "OMP_NUM_THREADS": "1"},
            stderr=stderr,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            family = descendants(process.pid)
            process.kill()
            await process.wait()
            for pid in alive(family):
                os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def descendants(pid: int) -> dict[int, str]:
    """Pids and command lines of a process's children and theirs."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found |= descendants(child)
    return found


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def files(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def ended(process: asyncio.subprocess.Process, *, seconds: float) -> int:
    async with asyncio.timeout(seconds):
        return await process.wait()


async def status_of(session: aiohttp.ClientSession, path: str, status: int) -> bool:
    return (await session.get(path)).status == status


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s in vain for {what}"
        await asyncio.sleep(0.05)


async def until_ready(session: aiohttp.ClientSession) -> None:
    await until(lambda: status_of(session, "/ready", 200), "the replica to be ready", seconds=START_SECONDS)


@pytest.fixture
async def short_tmp() -> AsyncIterator[Path]:
    """Unix sockets have short names, so pytest's own folders will not do."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cx-") as folder:
        yield Path(folder)


async def test_the_life_of_a_replica(checkpoint: Path, short_tmp: Path) -> None:
    log, port = short_tmp / "log", free_port()
    async with TestGateway(wants_tokenizer=True) as gateway:
        flags = ("--gateways", gateway.address, "--model", str(checkpoint), "--num-blocks", "64", "--replay", "Exact")
        status = ("--status-host", "127.0.0.1", "--status-port", str(port))
        session = aiohttp.ClientSession(f"http://127.0.0.1:{port}")
        async with session, replica(*flags, *status, log=log) as process:
            first = await gateway.joined(seconds=START_SECONDS)
            assert "exact" in first.info.features
            gateway.submit(request("a", tokens=12))
            await gateway.until(lambda: gateway.finished("a"), "a stream")
            await until_ready(session)
            assert (await session.get("/live")).status == 200
            metrics = await (await session.get("/metrics")).text()
            assert 'vllm:generation_tokens_total{model_name="' in metrics
            assert "coxswain_replica_ready 1.0" in metrics

            (engine,) = [pid for pid, command in descendants(process.pid).items() if "EngineActor" in command]
            os.kill(engine, signal.SIGKILL)
            await gateway.until(lambda: len(gateway.hellos) == 2, "a new engine in place", seconds=START_SECONDS)
            assert gateway.hellos[1].incarnation != first.incarnation
            await until_ready(session)
            assert "coxswain_engine_restarts_total 1.0" in await (await session.get("/metrics")).text()
            gateway.submit(request("b", tokens=12))
            await gateway.until(lambda: gateway.finished("b"), "a stream of the new engine")

            family = descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            assert await ended(process, seconds=20) == 0
    assert gateway.all(Leaving) == [Leaving(300.0, finish=False)]
    assert gateway.tokens("a") == gateway.tokens("b"), "greedy, so the same in both lives"
    assert alive(family) == []
    assert not files(short_tmp, "ray-*"), "Ray's files are removed"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["replica"] for line in lines} == {"chat-serve-0-1"}
    assert "connected" in {line["message"] for line in lines}, "the engine's log is the Pod's"


async def test_a_corrupt_model_is_explained(short_tmp: Path) -> None:
    model = write_checkpoint(short_tmp / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    explanation = short_tmp / "termination-log"
    flags = ("--gateways", "127.0.0.1:1", "--model", str(model), "--termination-log", str(explanation))
    async with replica(*flags, "--status-port", str(free_port()), log=short_tmp / "log") as process:
        assert await ended(process, seconds=START_SECONDS) == 1
    found = json.loads(explanation.read_text())
    assert (found["reason"], found["field"]) == ("WeightsCorrupt", "spec.model.uri")
    assert "model.safetensors" in found["message"]
    assert "Traceback" not in (short_tmp / "log").read_text()


@pytest.mark.parametrize(
    ("flags", "reason", "field"),
    [
        (("--model", "/no/such/model"), "ModelNotFound", "spec.model.uri"),
        (("--model", "/", "--num-blocks", "0"), "ArgumentInvalid", "spec.engine.args"),
    ],
)
async def test_what_can_be_seen_at_once_is_said_at_once(
    flags: tuple[str, ...], reason: str, field: str, short_tmp: Path
) -> None:
    explanation = short_tmp / "termination-log"
    given = ("--gateways", "127.0.0.1:1", "--termination-log", str(explanation), *flags)
    async with replica(*given, log=short_tmp / "log") as process:
        assert await ended(process, seconds=30) == 1
    found = json.loads(explanation.read_text())
    assert (found["reason"], found["field"]) == (reason, field)
    assert "Traceback" not in (short_tmp / "log").read_text()


async def test_the_engine_does_not_outlive_a_killed_supervisor(checkpoint: Path, short_tmp: Path) -> None:
    async with TestGateway() as gateway:
        flags = ("--gateways", gateway.address, "--model", str(checkpoint), "--num-blocks", "64")
        async with replica(*flags, "--status-port", str(free_port()), log=short_tmp / "log") as process:
            await gateway.joined(seconds=START_SECONDS)
            family = descendants(process.pid)
            engine = [pid for pid, command in family.items() if "EngineActor" in command]
            assert engine
            process.kill()
            await gateway.until(lambda: not gateway.connected, "the connection to close")

            async def gone() -> bool:
                return not alive(engine)

            await until(gone, "the engine's process to end", seconds=20)
            for pid in alive(family):  # Ray's agents notice a little later
                os.kill(pid, signal.SIGKILL)
