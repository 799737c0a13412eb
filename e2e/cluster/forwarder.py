"""Loopback ports to the gateways of every LLMService: goes on when the API server is down.

`python -m e2e.cluster.forwarder KUBECONFIG REPORT PORT` lists EndpointSlices, and forwards each new connection to a
ready Pod's address, by turns, passing over those that do not answer. PORT leads to the oldest service; each service
also gets a port of its own. REPORT is a JSON file, `{"NAMESPACE/NAME": port}`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from e2e.cluster.ports import free_ports

Address = tuple[str, int]

SELECTOR = "app.kubernetes.io/name=coxswain,coxswain.dev/service,!service.kubernetes.io/headless"
LOOK_SECONDS = 0.5
CONNECT_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
"""How long a new connection is held while no gateway takes it: what is Ready by now is known here a moment later."""
RETRY_SECONDS = 0.1
SHUN_SECONDS = 5.0
"""An address that did not answer is tried last for this long."""
SILENCE_MILLISECONDS = 10_000
"""A Pod whose machine acknowledges nothing for this long is taken for dead, and its connections are reset."""
CHUNK = 65536


def services(slices: Iterable[dict[str, Any]]) -> dict[str, list[Address]]:
    """Ready addresses by `NAMESPACE/NAME`, oldest service first, of the Services that clients talk to."""
    found: dict[str, list[Address]] = {}
    for each in sorted(slices, key=lambda item: str(item["metadata"]["creationTimestamp"])):
        labels = each["metadata"]["labels"]
        service = labels["coxswain.dev/service"]
        if labels.get("kubernetes.io/service-name") != service or not each.get("ports"):
            continue
        port = int(each["ports"][0]["port"])
        ready = (e for e in each.get("endpoints") or () if (e.get("conditions") or {}).get("ready", True))
        addresses = found.setdefault(f"{each['metadata']['namespace']}/{service}", [])
        addresses += [(endpoint["addresses"][0], port) for endpoint in ready]
    return found


@dataclass
class Rota:
    """Whose turn it is among the addresses of a service."""

    shunned: dict[Address, float] = field(default_factory=dict)
    turn: int = 0

    def order(self, addresses: list[Address], now: float) -> list[Address]:
        """All addresses, in the order in which to try them; moves the turn on."""
        if not addresses:
            return []
        start, self.turn = self.turn % len(addresses), self.turn + 1
        turned = addresses[start:] + addresses[:start]
        return sorted(turned, key=lambda address: self.shunned.get(address, 0.0) > now)

    def shun(self, address: Address, now: float) -> None:
        """Try this one last for a while."""
        self.shunned[address] = now + SHUN_SECONDS


class Forwarder:
    """Listens on one port per service and one for the oldest, and knows the addresses behind them."""

    def __init__(self, report: Path, port: int, *, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._report = report
        self._port = port
        self._known: dict[str, list[Address]] = {}
        self._ports: dict[str, int] = {}
        self._rota = Rota()
        self._connections: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Open the common port."""
        await self._listen(None, self._port)
        self._write()

    async def learn(self, known: dict[str, list[Address]]) -> None:
        """Take over what the API server says. A service that is no longer named has no addresses any more."""
        self._known = known
        for service in known.keys() - self._ports.keys():
            [port] = free_ports(1)
            await self._listen(service, port)
            self._ports[service] = port
        self._write()

    async def close(self) -> None:
        """Close every port and connection."""
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def addresses(self, service: str | None) -> list[Address]:
        """Where connections for a service, or for the oldest, may go."""
        key = next(iter(self._known), None) if service is None else service
        return self._known.get(key, []) if key else []

    def _write(self) -> None:
        text = json.dumps({service: self._ports[service] for service in self._known})
        if not self._report.exists() or self._report.read_text() != text:
            partial = self._report.with_suffix(".partial")
            partial.write_text(text)
            partial.rename(self._report)

    async def _listen(self, service: str | None, port: int) -> None:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(service, reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        self._servers.append(await asyncio.start_server(accept, "127.0.0.1", port))

    async def _serve(self, service: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (upstream := await self._connect(service)) is not None:
                await _join((reader, writer), upstream)
        finally:
            writer.transport.abort()

    async def _connect(self, service: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        deadline = time.monotonic() + self._patience
        while (found := await self._try_all(service)) is None and time.monotonic() < deadline:  # noqa: ASYNC110 - others' state
            await asyncio.sleep(RETRY_SECONDS)
        return found

    async def _try_all(self, service: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for address in self._rota.order(self.addresses(service), time.monotonic()):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(*address)
            except OSError:
                self._rota.shun(address, time.monotonic())
                continue
            _watch(writer.get_extra_info("socket"))
            return reader, writer
        return None


async def _join(
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Copy both ways until both have ended, or one breaks: then the other is reset, too."""
    try:
        async with asyncio.TaskGroup() as copies:
            copies.create_task(_copy(client[0], upstream[1]))
            copies.create_task(_copy(upstream[0], client[1]))
    except* OSError:
        pass
    finally:
        upstream[1].transport.abort()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()
    sink.write_eof()
    await sink.drain()


def _watch(connection: socket.socket) -> None:
    """Notice a machine that went silent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MILLISECONDS)


def _connector(kubeconfig: dict[str, Any]) -> aiohttp.TCPConnector:
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as chain:
        for part in ("client-certificate-data", "client-key-data"):
            chain.write(base64.b64decode(user[part]))
        chain.flush()
        context.load_cert_chain(chain.name)
    return aiohttp.TCPConnector(ssl=context)


async def _main(config: dict[str, Any], report: Path, port: int) -> None:
    forwarder = Forwarder(report, port)
    await forwarder.start()
    url = f"{config['clusters'][0]['cluster']['server']}/apis/discovery.k8s.io/v1/endpointslices"
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(connector=_connector(config), timeout=timeout, raise_for_status=True) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # what is known stays known
                async with session.get(url, params={"labelSelector": SELECTOR}) as answer:
                    await forwarder.learn(services((await answer.json())["items"]))
            await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), int(sys.argv[3])))
