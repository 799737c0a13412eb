"""What a gateway costs: CPU per streamed chunk, latency it adds, requests per second. No model is involved.

A real gateway process stands between a client and a replica that answers at once with ready tokens, so all that is
measured is the gateway. `python -m benchmarks.gateway [--streams 64] [--tokens 300]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import uvloop
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from coxswain_protocol.framing import encode, from_gateway
from coxswain_protocol.messages import (
    PROTOCOL_VERSION,
    Abort,
    Beat,
    Chunk,
    EngineInfo,
    Finish,
    Hello,
    Load,
    Request,
    Step,
    StepEvent,
    Submit,
    Welcome,
)
from coxswain_protocol.messages import (
    Tokenizer as TokenizerFiles,
)

TOKEN = "benchmark"


class Replica(Protocol):
    """What the measurements need of the replica behind a gateway."""

    running: dict[str, Attempt]
    eager: bool

    def step(self) -> None:
        """Send one token to every request that runs."""


@dataclass
class Attempt:
    """A request in progress on the ready replica."""

    request: Request
    sent: int = 0


class ReadyReplica(asyncio.Protocol):
    """Speaks the replica's side of the protocol. Each `step` sends one token to every request, in one frame."""

    def __init__(self, files: dict[str, bytes], vocab_size: int) -> None:
        self._files = files
        self._vocab_size = vocab_size
        self._decoder = from_gateway()
        self._number = 0
        self._beats = 0
        self.running: dict[str, Attempt] = {}
        self.eager = False
        """Answer each request with its one token at once, without waiting for a step."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        info = EngineInfo(
            engine="ready", model="ready", weights_digest="w", tokenizer_digest="t", vocab_size=self._vocab_size,
            max_model_len=1 << 20, block_size=16, num_blocks=1 << 16, max_num_seqs=1 << 12, eos_ids=(),
        )  # fmt: skip
        transport.write(encode(Hello(PROTOCOL_VERSION, TOKEN, "ready-0", "1", info)))

    def data_received(self, data: bytes) -> None:
        """Take up requests."""
        for message in self._decoder.feed(data):
            match message:
                case Welcome():
                    self._transport.write(encode(TokenizerFiles("t", self._files)))
                case Submit(request):
                    self.running[request.id] = Attempt(request)
                    if self.eager or request.id.startswith("canary"):
                        self.step(only=request.id)
                    else:
                        self._prefill(len(request.prompt))
                case Abort(name):
                    self.running.pop(name, None)

    def beat(self) -> None:
        """A sign of life."""
        self._beats += 1
        self._transport.write(encode(Beat(self._beats)))

    def step(self, *, only: str | None = None) -> None:
        """One engine step."""
        self._number += 1
        names = [only] if only else list(self.running)
        chunks = tuple(self._chunk(name) for name in names)
        self._transport.write(encode(Step(StepEvent(self._number, 0.01, 0, len(chunks), 0), chunks, load=Load())))

    def _prefill(self, tokens: int) -> None:
        """The step under way when a prompt comes, and the one that computes it; its first token comes with `step`."""
        self._number += 2
        load = Load(running=len(self.running), total_blocks=1 << 16, free_blocks=1 << 15, decoding=len(self.running))
        self._transport.write(encode(Step(StepEvent(self._number, 0.001, tokens, 0, 0), load=load)))

    def _chunk(self, name: str) -> Chunk:
        attempt = self.running[name]
        start, attempt.sent = attempt.sent, attempt.sent + 1
        done = attempt.sent >= attempt.request.sampling.max_tokens
        if done:
            del self.running[name]
        return Chunk(name, start, (300 + start % 200,), finish=Finish("length") if done else None)


@dataclass(frozen=True)
class Measured:
    """Figures of one gateway on one core."""

    cpu_us_per_chunk: float
    added_ms_p50: float
    added_ms_p95: float
    requests_per_second: float
    cpu_us_per_request: float
    chunks: int


Served = tuple[asyncio.subprocess.Process, int, Replica]
"""A process under measurement, the port that clients use, and the replica behind it."""


async def measure(
    *, streams: int, tokens: int, step_seconds: float, serving: Callable[[], AbstractAsyncContextManager[Served]]
) -> Measured:
    """Start what is `serving`, run all measurements, stop it."""
    async with serving() as (process, port, replica):
        warm = asyncio.create_task(_streams(port, streams=streams, tokens=20))
        await _drive(replica, streams=streams, tokens=20, step_seconds=step_seconds)
        await warm
        clients = asyncio.create_task(_streams(port, streams=streams, tokens=tokens))
        await _wait_running(replica, streams)
        before = _cpu_seconds(process.pid)
        await _drive(replica, streams=streams, tokens=tokens, step_seconds=step_seconds)
        await clients
        cpu = _cpu_seconds(process.pid) - before
        added = await _added(port, replica, tokens=500)
        rate, cpu_request = await _requests(process.pid, port, replica, total=2000, concurrency=32)
    return Measured(
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


async def _requests(pid: int, port: int, replica: Replica, *, total: int, concurrency: int) -> tuple[float, float]:
    """Short requests over kept connections: per second, and CPU seconds each."""
    replica.eager = True
    before, started = _cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*(_ask(port, total // concurrency) for _ in range(concurrency)))
    elapsed, cpu = time.perf_counter() - started, _cpu_seconds(pid) - before
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


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def gateway() -> AsyncIterator[Served]:
    """A gateway with a ready replica."""
    ports = free_ports(3)
    flags = ["--service", "b", "--namespace", "b", "--model", "ready", "--gateway", "g", "--host", "127.0.0.1"]
    flags += ["--port", str(ports[0]), "--replica-port", str(ports[1]), "--status-port", str(ports[2])]
    flags += ["--linger-seconds", "0", "--max-waiting", "1024", "--heartbeat-limit", "10"]
    with tempfile.TemporaryFile() as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "coxswain_gateway", *flags, env={**os.environ, "COXSWAIN_TOKEN": TOKEN}, stderr=stderr
        )
        try:
            tokenizer = _tokenizer()
            files = {"tokenizer.json": tokenizer.to_str().encode()}
            await wait_port(ports[1])
            _, replica = await asyncio.get_running_loop().create_connection(
                lambda: ReadyReplica(files, tokenizer.get_vocab_size()), "127.0.0.1", ports[1]
            )
            beats = asyncio.create_task(_beats(replica))
            await wait_healthy(ports[0])
            yield process, ports[0], replica
            beats.cancel()
        finally:
            process.terminate()
            await process.wait()


async def _beats(replica: ReadyReplica) -> None:
    while True:
        replica.beat()
        await asyncio.sleep(0.1)


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    return tokenizer


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


async def wait_port(port: int) -> None:
    """Wait until somebody listens. Raises TimeoutError after 30 s."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def wait_healthy(port: int) -> None:
    """Wait until `GET /health` says 200. Raises TimeoutError after 30 s, ConnectionError when nobody listens."""
    async with asyncio.timeout(30):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
            await asyncio.sleep(0.02)


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
    for name in Measured.__dataclass_fields__:
        print(f"{name:>22}  {getattr(measured, name):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
