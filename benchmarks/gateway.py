"""What a gateway costs: CPU per streamed chunk, latency it adds, requests per second. No model is involved.

A real gateway process stands between a client and a replica that answers at once with ready tokens, so all that is
measured is the gateway. `python -m benchmarks.gateway [--streams 64] [--tokens 300]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import uvloop

from benchmarks.processes import Measured, running, wait_healthy, wait_port
from benchmarks.ready_replica import TOKEN, ReadyReplica, Replica
from e2e.cluster.ports import free_ports


@dataclass(frozen=True)
class Figures:
    """Figures of one gateway on one core."""

    cpu_us_per_chunk: float
    added_ms_p50: float
    added_ms_p95: float
    requests_per_second: float
    cpu_us_per_request: float
    chunks: int


Served = tuple[Measured, int, Replica]
"""A process under measurement, the port that clients use, and the replica behind it."""


async def measure(
    *, streams: int, tokens: int, step_seconds: float, serving: Callable[[], AbstractAsyncContextManager[Served]]
) -> Figures:
    """Start what is `serving`, run all measurements, stop it."""
    async with serving() as (process, port, replica):
        warm = asyncio.create_task(_streams(port, streams=streams, tokens=20))
        await _drive(replica, streams=streams, tokens=20, step_seconds=step_seconds)
        await warm
        clients = asyncio.create_task(_streams(port, streams=streams, tokens=tokens))
        await _wait_running(replica, streams)
        before = process.cpu_seconds()
        await _drive(replica, streams=streams, tokens=tokens, step_seconds=step_seconds)
        await clients
        cpu = process.cpu_seconds() - before
        added = await _added(port, replica, tokens=500)
        rate, cpu_request = await _requests(process, port, replica, total=2000, concurrency=32)
    return Figures(
        cpu_us_per_chunk=cpu / (streams * tokens) * 1e6,
        added_ms_p50=statistics.median(added) * 1e3,
        added_ms_p95=sorted(added)[int(len(added) * 0.95)] * 1e3,
        requests_per_second=rate,
        cpu_us_per_request=cpu_request * 1e6,
        chunks=streams * tokens,
    )


async def _streams(port: int, *, streams: int, tokens: int) -> None:
    await asyncio.gather(*(_stream(port, tokens) for _ in range(streams)))


async def _stream(port: int, tokens: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_post({"model": "ready", "prompt": "hello", "max_tokens": tokens, "stream": True}, close=True))
    ended = b""
    while data := await reader.read(1 << 16):
        ended = (ended + data)[-64:]
    writer.close()
    if b"[DONE]" not in ended:
        raise RuntimeError(f"a stream did not end well: {ended!r}")


async def _drive(replica: Replica, *, streams: int, tokens: int, step_seconds: float) -> None:
    await _wait_running(replica, streams)
    for _ in range(tokens):
        replica.step()
        await asyncio.sleep(step_seconds)


async def _wait_running(replica: Replica, count: int) -> None:
    async with asyncio.timeout(30):
        while len(replica.running) < count:  # noqa: ASYNC110 - another process, or any state at all, is watched
            await asyncio.sleep(0.001)


async def _added(port: int, replica: Replica, *, tokens: int) -> list[float]:
    """Seconds from a token leaving the replica to its event reaching the client, one stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_post({"model": "ready", "prompt": "hello", "max_tokens": tokens, "stream": True}, close=True))
    await _wait_running(replica, 1)
    seconds = []
    for _ in range(tokens - 1):
        sent = time.perf_counter()
        replica.step()
        await reader.readuntil(b"}\n\n")
        seconds.append(time.perf_counter() - sent)
        await asyncio.sleep(0.001)
    replica.step()
    while await reader.read(1 << 16):
        pass
    writer.close()
    return seconds


async def _requests(
    process: Measured, port: int, replica: Replica, *, total: int, concurrency: int
) -> tuple[float, float]:
    """Short requests over kept connections: per second, and CPU seconds each."""
    replica.eager = True
    before, started = process.cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(_ask(port, total // concurrency) for _ in range(concurrency)))
    elapsed, cpu = time.perf_counter() - started, process.cpu_seconds() - before
    return total / elapsed, cpu / total


async def _ask(port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = _post({"model": "ready", "prompt": "hello", "max_tokens": 1}, close=False)
    for _ in range(count):
        writer.write(body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


def _post(body: dict[str, object], *, close: bool) -> bytes:
    data = json.dumps(body).encode()
    connection = "close" if close else "keep-alive"
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


@asynccontextmanager
async def gateway() -> AsyncIterator[Served]:
    """A gateway with a ready replica."""
    ports = free_ports(3)
    flags = ["--service", "b", "--namespace", "b", "--model", "ready", "--gateway", "g", "--host", "127.0.0.1"]
    flags += ["--port", str(ports[0]), "--replica-port", str(ports[1]), "--status-port", str(ports[2])]
    flags += ["--linger-seconds", "0", "--max-waiting", "1024", "--heartbeat-limit", "10"]
    command = [sys.executable, "-m", "coxswain_gateway", *flags]
    async with running("gateway", command, env={"COXSWAIN_TOKEN": TOKEN}) as process:
        replica = ReadyReplica()
        await wait_port(ports[1])
        await asyncio.get_running_loop().create_connection(lambda: replica, "127.0.0.1", ports[1])
        beats = asyncio.create_task(replica.beat())
        await wait_healthy(ports[0])
        yield process, ports[0], replica
        beats.cancel()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description="What a gateway costs.")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--step-seconds", type=float, default=0.01)
    options = parser.parse_args(argv)
    measured = uvloop.run(
        measure(streams=options.streams, tokens=options.tokens, step_seconds=options.step_seconds, serving=gateway)
    )
    for name in Figures.__dataclass_fields__:
        print(f"{name:>22}  {getattr(measured, name):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
