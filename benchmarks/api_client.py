"""What the benchmarks themselves ask of an API server: objects written, counted, and watched as they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from coxswain_operator.cluster.kinds import Kind
from coxswain_operator.cluster.login import Login

CONCURRENT = 16
"""Requests at once, watches not counted."""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    resource_version: str
    generation: int = 0


class _Status(msgspec.Struct, rename="camel"):
    observed_generation: int = 0


class Stored(msgspec.Struct):
    """An object as the API server has it, as far as a benchmark looks at it."""

    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)


class _Event(msgspec.Struct):
    object: Stored


@dataclass
class Client:
    """What the benchmark itself asks of the API server."""

    session: aiohttp.ClientSession
    server: str
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENT))

    async def send(self, method: str, path: str, body: dict[str, Any], *, kind: str = "application/json") -> Stored:
        """Write one object. Raises RuntimeError when it is refused."""
        async with (
            self.slots,
            self.session.request(
                method,
                f"{self.server}{path}?fieldValidation=Strict",
                data=msgspec.json.encode(body),
                headers={"Content-Type": kind},
            ) as response,
        ):
            answer = await response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.decode(errors='replace')}")
            return msgspec.json.decode(answer, type=Stored)

    async def count(self, kind: Kind, namespace: str) -> int:
        """How many objects there are, without reading them."""
        path = f"{self.server}{kind.path(namespace=namespace)}?limit=1"
        async with self.session.get(path) as response:
            answer = await response.json()
        return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount", 0))

    async def events(self, kind: Kind, namespace: str) -> AsyncIterator[Stored]:
        """Every change of an object from now on. A watch that the server ends is taken up where it was."""
        path = self.server + kind.path(namespace=namespace)
        async with self.session.get(f"{path}?limit=1") as response:
            version = (await response.json())["metadata"]["resourceVersion"]
        while True:
            watch = f"{path}?watch=1&resourceVersion={version}"
            async with self.session.get(watch, read_bufsize=1 << 20) as response:
                async for line in response.content:
                    changed = msgspec.json.decode(line, type=_Event).object
                    version = changed.metadata.resource_version
                    yield changed


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Client]:
    """A client with this configuration, for the length of the block."""
    info = Login(kubeconfig)()
    connector = aiohttp.TCPConnector(ssl=info.as_ssl_context(), limit=CONCURRENT + 2)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Client(session, info.server.rstrip("/"))
