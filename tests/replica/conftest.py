"""Replicas without Ray, in the test's own process and event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from coxswain_workers.addresses import GatewayAddresses
from coxswain_workers.engine.interface import Engine
from coxswain_workers.replica.replica import Replica
from coxswain_workers.replica.settings import Settings
from tests.checkpoints import write_checkpoint
from tests.replica.gateway import TOKEN, TestGateway


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@asynccontextmanager
async def running(
    engine: Engine, *gateways: TestGateway, tokenizer: dict[str, bytes] | None = None, **changes: Any
) -> AsyncIterator[tuple[Replica, asyncio.Task[None]]]:
    """A replica that serves `engine` to `gateways`, and the task in which it runs."""
    addresses = ",".join(gateway.address for gateway in gateways) or "no-gateways:8001"
    options: dict[str, Any] = {
        "gateways": GatewayAddresses.parse(addresses),
        "replica": "chat-serve-0-1",
        "model": "unused",
        "token": TOKEN,
    }
    resolve: Callable[..., Any] | None = changes.pop("resolve_name", None)
    extra = {"resolve_name": resolve} if resolve else {}
    replica = Replica(engine, settings=Settings(**(options | changes)), tokenizer=tokenizer or {}, **extra)
    task = asyncio.create_task(replica.run())
    try:
        yield replica, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
