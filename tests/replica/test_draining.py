"""A replica that is asked to go."""

from __future__ import annotations

import asyncio

from coxswain_protocol.messages import Leaving
from tests.replica.conftest import running
from tests.replica.engines import Metronome
from tests.replica.gateway import TestGateway, request


async def test_drain_by_migration_ends_when_the_streams_have_moved() -> None:
    async with TestGateway() as gateway, running(Metronome(), gateway) as (replica, task):
        await gateway.joined()
        gateway.submit(request("a", tokens=1_000_000))
        await gateway.until(lambda: gateway.tokens("a"), "tokens")
        draining = asyncio.create_task(replica.drain(30.0))
        await gateway.until(lambda: gateway.all(Leaving), "a word of leaving")
        assert gateway.all(Leaving) == [Leaving(30.0, finish=False)]
        assert not task.done()
        gateway.abort("a")
        async with asyncio.timeout(5):
            await asyncio.gather(draining, task)
    assert not gateway.connected


async def test_drain_by_finishing_lets_streams_end() -> None:
    async with TestGateway() as gateway, running(Metronome(), gateway, on_drain="Finish") as (replica, task):
        await gateway.joined()
        gateway.submit(request("a", tokens=200))
        await gateway.until(lambda: gateway.tokens("a"), "tokens")
        await replica.drain(30.0)
        async with asyncio.timeout(5):
            await task
        await gateway.until(lambda: not gateway.connected, "the connection to close")
    assert gateway.all(Leaving) == [Leaving(30.0, finish=True)]
    assert len(gateway.tokens("a")) == 200


async def test_draining_has_a_limit() -> None:
    async with TestGateway() as gateway, running(Metronome(), gateway, on_drain="Finish") as (replica, task):
        await gateway.joined()
        gateway.submit(request("a", tokens=1_000_000))
        await gateway.until(lambda: gateway.tokens("a"), "tokens")
        async with asyncio.timeout(5):
            await replica.drain(0.3)
            await task
    assert not gateway.finished("a")
