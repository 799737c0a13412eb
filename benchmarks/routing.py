"""The gateway beside sglang-router, in turns, under the same clients.

The router (Rust) relays what its workers stream and does no more; the gateway also tokenises, keeps the token log that
streams are resumed from, and turns token ids into text. `pip install sglang-router` in an environment of its own, with
its command on PATH or in `--router`; without it the peer's column stays empty.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from rich.console import Console

from benchmarks.gateway import Figures, Served, gateway, measure
from benchmarks.processes import running, wait_healthy, wait_port
from benchmarks.ready_replica import Attempt
from benchmarks.rows import Row, Section
from coxswain_protocol.messages import Request, Sampling
from e2e.cluster.ports import free_ports

STREAMS = 64
TOKENS = 300
STEP_SECONDS = 0.01

_FIGURES = {
    "requests_per_second": "1/s",
    "cpu_us_per_request": "us",
    "cpu_us_per_chunk": "us",
    "added_ms_p50": "ms",
    "added_ms_p95": "ms",
}
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_INFO = json.dumps({"model_path": "ready", "data": [{"id": "ready", "object": "model"}]}).encode()


async def compare(*, rounds: int, router: Path | None, console: Console) -> Section:
    """All figures of the gateway, and of the router where there is one: medians of interleaved rounds."""
    ours, peer = [], []
    for number in range(1, rounds + 1):
        console.print(f"gateway: round {number} of {rounds}")
        ours.append(await measure(streams=STREAMS, tokens=TOKENS, step_seconds=STEP_SECONDS, serving=gateway))
        if router:
            console.print(f"gateway: round {number} of {rounds}, sglang-router")
            peer.append(
                await measure(
                    streams=STREAMS, tokens=TOKENS, step_seconds=STEP_SECONDS, serving=lambda: _routed(router)
                )
            )
    return Section(
        title="Gateway",
        workload=(
            "A replica without a model, which has every token ready; clients and replica in one other process. CPU per "
            f"chunk: {STREAMS} streams of {TOKENS} tokens, one step each {STEP_SECONDS * 1e3:.0f} ms. Added latency: "
            "from the replica's token to the client's event, one stream. Requests: completions of one token, 32 at a "
            f"time, kept connections. Median of {rounds} interleaved rounds."
            + ("" if router else " No sglang-router was found, so there is no peer.")
        ),
        rows=[_row(figure, unit, ours, peer) for figure, unit in _FIGURES.items()],
    )


def _row(figure: str, unit: str, ours: list[Figures], peer: list[Figures]) -> Row:
    def median(all_: list[Figures]) -> float:
        return statistics.median(float(getattr(one, figure)) for one in all_)

    name = f"gateway_{figure}"
    if not peer:
        return Row(name=name, value=median(ours), unit=unit)
    return Row(name=name, value=median(ours), unit=unit, peer="sglang-router", peer_value=median(peer))


class HttpReplica:
    """The ready replica as a worker of the router: what it streams is ready, too."""

    def __init__(self) -> None:
        self.running: dict[str, Attempt] = {}
        self.eager = False
        self._clients: dict[str, asyncio.Transport] = {}
        self._number = 0

    def step(self) -> None:
        """Send one token to every stream."""
        for name in list(self.running):
            self._stream_token(name)

    def submit(self, body: dict[str, object], client: asyncio.Transport) -> None:
        """A new request; one that does not stream is answered at once."""
        if not body.get("stream"):
            client.write(_with_length(_completion("a", "length")))
            return
        self._number += 1
        name = str(self._number)
        sampling = Sampling(seed=0, max_tokens=cast(int, body["max_tokens"]))
        self.running[name] = Attempt(Request(name, (), sampling))
        self._clients[name] = client
        client.write(_STREAM)

    def _stream_token(self, name: str) -> None:
        attempt, client = self.running[name], self._clients[name]
        attempt.sent += 1
        done = attempt.sent >= attempt.request.sampling.max_tokens
        client.write(_chunk(b"data: " + _completion(" word", "length" if done else None) + b"\n\n"))
        if done:
            client.write(_chunk(b"data: [DONE]\n\n") + _chunk(b""))
            del self.running[name], self._clients[name]


class _Connection(asyncio.Protocol):
    """As much of HTTP as the router needs."""

    def __init__(self, replica: HttpReplica) -> None:
        self._replica = replica
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, rest = self._buffer[:end], self._buffer[end + 4 :]
            length = _content_length(head)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(head, rest[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /v1/completions"):
            self._replica.submit(json.loads(body), self._transport)
        else:
            self._transport.write(_with_length(_INFO))


@asynccontextmanager
async def _routed(router: Path) -> AsyncIterator[Served]:
    """The router with one ready worker."""
    worker, port, metrics = free_ports(3)
    replica = HttpReplica()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(replica), "127.0.0.1", worker)
    flags = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics)]
    flags += ["--worker-urls", f"http://127.0.0.1:{worker}", "--policy", "round_robin", "--log-level", "error"]
    try:
        async with running("sglang-router", [str(router), "launch", *flags]) as process:
            await wait_port(port)
            await wait_healthy(port)
            await _wait_served(port)
            yield process, port, replica
    finally:
        server.close()


async def _wait_served(port: int) -> None:
    """The router is healthy before its worker is registered: wait until a request is answered."""
    body = b'{"model":"ready","prompt":"hello","max_tokens":1}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    async with asyncio.timeout(30):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
            await asyncio.sleep(0.05)


def _completion(text: str, finish: str | None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    body = {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": "ready", "choices": [choice]}
    return json.dumps(body, separators=(",", ":")).encode()


def _with_length(body: bytes) -> bytes:
    return _JSON % (len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0
