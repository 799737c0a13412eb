"""Loopback ports to gateways, with gateways and API answers made here."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster.forwarder import SHUN_SECONDS, Address, Forwarder, Rota, services
from e2e.cluster.ports import free_ports

DEADLINE = 10.0


def endpoint_slice(service: str, addresses: dict[str, bool], *, created: str = "2025-01-01", **labels: str) -> Any:
    endpoints = [{"addresses": [address], "conditions": {"ready": ready}} for address, ready in addresses.items()]
    known = {"coxswain.dev/service": service, "kubernetes.io/service-name": service, **labels}
    metadata = {"namespace": "default", "creationTimestamp": created, "labels": known}
    return {"metadata": metadata, "ports": [{"port": 8000}], "endpoints": endpoints}


def test_ready_addresses_by_service_oldest_first() -> None:
    found = services(
        [
            endpoint_slice("young", {"198.18.2.9": True}, created="2025-01-02"),
            endpoint_slice("old", {"198.18.2.2": True, "198.18.3.2": False}),
            endpoint_slice("old", {"198.18.4.2": True}),
        ]
    )
    assert list(found) == ["default/old", "default/young"]
    assert found["default/old"] == [("198.18.2.2", 8000), ("198.18.4.2", 8000)]


def test_services_for_others_than_clients_are_passed_over() -> None:
    headless = endpoint_slice("tiny", {"198.18.2.2": True}, **{"kubernetes.io/service-name": "tiny-gateways"})
    assert services([headless]) == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), unique=True), st.integers(0, 9))
def test_everyone_has_a_turn_and_nobody_is_left_out(addresses: list[Address], shunned: int) -> None:
    rota = Rota()
    if addresses:
        rota.shun(addresses[shunned % len(addresses)], now=0.0)
    orders = [rota.order(addresses, now=1.0) for _ in addresses]
    assert all(sorted(order) == sorted(addresses) for order in orders)
    if len(addresses) > 1:
        assert all(order[-1] == addresses[shunned % len(addresses)] for order in orders)
    firsts = [rota.order(addresses, now=SHUN_SECONDS + 1)[0] for _ in addresses]
    assert sorted(firsts) == sorted(addresses)


@asynccontextmanager
async def gateway(name: bytes) -> AsyncIterator[Address]:
    """Answers each line with its own name and that line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(name + b" " + line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]


async def ask(port: int) -> bytes:
    """What comes back for one line, to the end."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        writer.write_eof()
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[tuple[Forwarder, int, Path]]:
    [port] = free_ports(1)
    report = tmp_path / "gateways.json"
    forwarder = Forwarder(report, port)
    await forwarder.start()
    yield forwarder, port, report
    await forwarder.close()


async def test_connections_take_turns(forwarder: tuple[Forwarder, int, Path]) -> None:
    forward, port, report = forwarder
    async with gateway(b"one") as one, gateway(b"two") as two:
        await forward.learn({"default/tiny": [one, two]})
        assert sorted([await ask(port), await ask(port)]) == [b"one hello\n", b"two hello\n"]
        own = json.loads(report.read_text())["default/tiny"]
        assert await ask(own) in (b"one hello\n", b"two hello\n")


async def test_an_address_that_refuses_is_passed_over(forwarder: tuple[Forwarder, int, Path]) -> None:
    forward, port, _ = forwarder
    async with gateway(b"one") as one:
        await forward.learn({"default/tiny": [("127.0.0.1", free_ports(1)[0]), one]})
        assert [await ask(port) for _ in range(3)] == [b"one hello\n"] * 3


async def test_an_address_that_is_silent_is_passed_over(forwarder: tuple[Forwarder, int, Path]) -> None:
    forward, port, _ = forwarder
    with socket.socket() as full:  # its queue of one is taken: further connections get no answer
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with gateway(b"one") as one:
            await forward.learn({"default/tiny": [full.getsockname(), one]})
            assert [await ask(port) for _ in range(3)] == [b"one hello\n"] * 3
        for filler in fillers:
            filler.close()


async def test_without_a_gateway_the_connection_ends(tmp_path: Path) -> None:
    [port] = free_ports(1)
    forward = Forwarder(tmp_path / "gateways.json", port, patience=0.0)
    await forward.start()
    assert await ask(port) == b""
    assert json.loads((tmp_path / "gateways.json").read_text()) == {}
    await forward.close()


async def test_a_connection_that_comes_just_before_its_gateway_is_held(
    forwarder: tuple[Forwarder, int, Path],
) -> None:
    forward, port, _ = forwarder
    early = asyncio.create_task(ask(port))
    async with gateway(b"one") as one:
        await forward.learn({"default/tiny": [one]})
        assert await early == b"one hello\n"


async def test_each_service_keeps_its_port_and_the_oldest_has_the_common_one(
    forwarder: tuple[Forwarder, int, Path],
) -> None:
    forward, port, report = forwarder
    async with gateway(b"old") as old, gateway(b"young") as young:
        await forward.learn({"default/old": [old], "default/young": [young]})
        ports = json.loads(report.read_text())
        assert await ask(port) == b"old hello\n"
        assert await ask(ports["default/young"]) == b"young hello\n"
        await forward.learn({"default/young": [young]})
        assert await ask(port) == b"young hello\n"
        assert json.loads(report.read_text()) == {"default/young": ports["default/young"]}
