"""The coordinator's process, polling status pages on the loopback."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web

from coxswain_protocol.messages import Load
from coxswain_protocol.status import GatewayStatus, MemberState, MemberStatus, ServiceStatus
from coxswain_workers.addresses import Addresses, GatewayAddresses
from coxswain_workers.coordinator.poller import Poller
from coxswain_workers.coordinator.settings import Settings, SettingsError, parse

TOKEN = "a-token-that-all-know"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
DEADLINE = 20.0


def member(replica: str, state: MemberState = "Ready", *, streams: int = 0, age: float = 0.05) -> MemberStatus:
    return MemberStatus(replica, "inc", state, age, "w", "cpu", True, 0.001, streams, load=Load(running=streams))


class StatusPage:
    """A gateway's status page that says what the test wants."""

    def __init__(self, status: GatewayStatus) -> None:
        self.status = status
        self.body: bytes | None = None
        """Said instead of the status, when set."""
        self.port = 0

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != HEADERS["Authorization"]:
            return web.Response(status=401)
        return web.Response(body=self.body or msgspec.json.encode(self.status))

    @asynccontextmanager
    async def served(self) -> AsyncIterator[StatusPage]:
        app = web.Application()
        app.router.add_get("/internal/status", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@asynccontextmanager
async def coordinator(*pages: StatusPage, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    gateways = ",".join(f"127.0.0.1:{page.port}" for page in pages)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "coxswain_workers.coordinator", "--service", "chat", "--gateways", gateways),
        *("--status-host", "127.0.0.1", "--status-port", str(port)),
        env={**os.environ, "COXSWAIN_TOKEN": TOKEN},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def status(
    port: int, condition: Callable[[ServiceStatus], bool], what: str, *, token: str = TOKEN
) -> ServiceStatus:
    """The coordinator's status, once `condition` holds."""
    url = f"http://127.0.0.1:{port}/internal/status"
    deadline = asyncio.get_running_loop().time() + DEADLINE
    last: object = "no answer"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with session.get(url) as response:
                    last = await response.read()
                    if response.status == 200:
                        last = found = msgspec.json.decode(last, type=ServiceStatus)
                        if condition(found):
                            return found
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)
    pytest.fail(f"waited {DEADLINE} s in vain for {what}; last: {last!r}")


async def test_the_gateways_views_are_merged(unused_tcp_port: int) -> None:
    one = StatusPage(GatewayStatus("one", (member("a", streams=3), member("b", "Lost", age=9.0)), streams=3))
    two = StatusPage(GatewayStatus("two", (member("a", streams=4), member("b", streams=1)), streams=5))
    async with one.served(), two.served(), coordinator(one, two, port=unused_tcp_port) as process:
        found = await status(unused_tcp_port, lambda s: len(s.gateways) == 2, "both gateways")
        assert found.service == "chat"
        assert [gateway.gateway for gateway in found.gateways] == ["one", "two"]
        assert [(m.replica, m.state, m.streams) for m in found.members] == [("a", "Ready", 7), ("b", "Ready", 1)]
        assert found.departure_order == ("b", "a"), "least to move first"
        assert found.unreachable == ()

        two.status = GatewayStatus("two", (member("a", streams=4), member("b", "Lost", age=9.0)))
        found = await status(unused_tcp_port, lambda s: s.members[1].state == "Lost", "b to be lost for both")
        process.terminate()
        async with asyncio.timeout(10):
            assert await process.wait() == 0


async def test_a_gateway_that_does_not_answer_is_named_and_the_others_count(unused_tcp_port: int) -> None:
    one = StatusPage(GatewayStatus("one", (member("a"),)))
    two = StatusPage(GatewayStatus("two", (member("a"),)))
    async with one.served(), AsyncExitStack() as stack:
        await stack.enter_async_context(two.served())
        async with coordinator(one, two, port=unused_tcp_port):
            await status(unused_tcp_port, lambda s: len(s.gateways) == 2, "both gateways")
            await stack.aclose()
            found = await status(unused_tcp_port, lambda s: bool(s.unreachable), "one to be unreachable")
            assert found.unreachable == (f"127.0.0.1:{two.port}",)
            assert [gateway.gateway for gateway in found.gateways] == ["one"]
            assert [m.replica for m in found.members] == ["a"]
            async with two.served():
                await status(unused_tcp_port, lambda s: not s.unreachable, "it to be back")


async def test_nonsense_is_not_taken_for_a_status(unused_tcp_port: int) -> None:
    one = StatusPage(GatewayStatus("one", (member("a"),)))
    async with one.served(), coordinator(one, port=unused_tcp_port):
        await status(unused_tcp_port, lambda s: bool(s.gateways), "a round")
        one.body = b'{"gateway": 5}'
        await status(unused_tcp_port, lambda s: not s.gateways, "nonsense to count as no answer")
        one.body = None
        await status(unused_tcp_port, lambda s: bool(s.gateways), "the gateway to be back")


async def test_a_restarted_coordinator_knows_what_the_last_one_knew(unused_tcp_port: int) -> None:
    page = StatusPage(GatewayStatus("one", (member("a", streams=2),)))
    async with page.served():
        async with coordinator(page, port=unused_tcp_port):
            before = await status(unused_tcp_port, lambda s: bool(s.gateways), "a round")
        async with coordinator(page, port=unused_tcp_port):
            assert await status(unused_tcp_port, lambda s: bool(s.gateways), "a round") == before


async def test_pages(unused_tcp_port: int) -> None:
    page = StatusPage(GatewayStatus("one", (member("a", streams=2),), streams=2))
    async with page.served(), coordinator(page, port=unused_tcp_port):
        await status(unused_tcp_port, lambda s: bool(s.gateways), "a round")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{unused_tcp_port}") as session:
            for path in ("/live", "/ready"):
                assert (await session.get(path)).status == 200
            assert (await session.get("/internal/status")).status == 401
            assert (await session.get("/internal/status", headers={"Authorization": "Bearer x"})).status == 401
            metrics = await (await session.get("/metrics")).text()
    assert 'coxswain_service_replicas{state="Ready"} 1.0' in metrics
    assert 'coxswain_service_gateways{answers="yes"} 1.0' in metrics
    assert "coxswain_service_streams 2.0" in metrics


async def test_a_resolver_that_hangs_delays_no_round() -> None:
    page = StatusPage(GatewayStatus("one", (member("a"),)))
    asked = 0

    async def resolve(_host: str, _port: int) -> frozenset[tuple[str, int]]:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.Event().wait()
        return frozenset({("127.0.0.1", page.port)})

    names = GatewayAddresses.parse("chat-gateways:8002")
    settings = Settings(service="chat", gateways=names, token=TOKEN, poll_seconds=0.02)
    async with page.served():
        poller = Poller(settings, Addresses(names, resolve=resolve))
        task = asyncio.create_task(poller.run())
        try:
            async with asyncio.timeout(DEADLINE):
                while asked < 2 or poller.rounds < 10:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert poller.status is not None
            assert [m.replica for m in poller.status.members] == ["a"]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--gateways", "chat"], {"COXSWAIN_TOKEN": "t"}, "--gateways: 'chat' is not HOST:PORT"),
        (["--gateways", "chat:1"], {}, "COXSWAIN_TOKEN is not set"),
        (["--gateways", "chat:1", "--status-port", "-1"], {"COXSWAIN_TOKEN": "t"}, "--status-port must be between"),
        (["--gateways", "chat:1", "--ttft-seconds", "0"], {"COXSWAIN_TOKEN": "t"}, "--ttft-seconds must be more"),
        (["--gateways", "chat:1", "--attainment", "99"], {"COXSWAIN_TOKEN": "t"}, "--attainment must be between"),
    ],
)
def test_what_makes_no_sense_is_refused(flags: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(["--service", "chat", *flags], environment)
