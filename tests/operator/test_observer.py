"""Polling the status pages of a service."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import msgspec
import pytest

from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.kinds import PODS, SECRETS, SERVICES
from coxswain_operator.observing.observer import MEASURED_PERIOD_SECONDS, PATIENCE_SECONDS, Observer
from coxswain_operator.observing.view import Hearing
from coxswain_protocol.status import GatewayStatus, Histogram, MemberState, MemberStatus, ServiceStatus

KEY = ("team", "chat")
LABELS = {"app.kubernetes.io/managed-by": "coxswain", "coxswain.dev/service": "chat"}


def member(replica: str, state: MemberState = "Ready", *, token_age: float | None = None) -> MemberStatus:
    return MemberStatus(replica, "i1", state, 0.1, "digest", "cpu", True, 0.02, token_age=token_age)


@dataclass
class Network:
    """What answers at which address. Nothing else does."""

    pages: dict[str, msgspec.Struct] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def fetch(self, address: str, token: str) -> bytes:
        assert token == "secret"
        self.asked.append(address)
        if address not in self.pages:
            raise TimeoutError(address)
        return msgspec.json.encode(self.pages[address])


@dataclass
class Scene:
    network: Network = field(default_factory=Network)
    cache: Cache = field(default_factory=Cache)
    news: list[Key] = field(default_factory=list)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.observer = Observer(self.cache, self.news.append, self.network.fetch, clock=lambda: self.now)
        metadata = {"namespace": "team", "resourceVersion": "1"}
        self.cache.put(SERVICES, {"metadata": metadata | {"name": "chat"}})
        token = base64.b64encode(b"secret").decode()
        secret = {"metadata": metadata | {"name": "chat-token", "labels": LABELS}, "data": {"token": token}}
        self.cache.put(SECRETS, secret)
        for name, address in (("coordinator", "c"), ("gateway-1", "g1"), ("gateway-2", "g2")):
            labels = LABELS | {"app.kubernetes.io/component": name.split("-")[0]}
            pod = {"metadata": metadata | {"name": name, "labels": labels}, "status": {"podIP": address}}
            self.cache.put(PODS, pod)

    async def poll(self, seconds: float = 1.0) -> int:
        """Poll once after some time; returns how much news there was."""
        self.now += seconds
        before = len(self.news)
        await self.observer.poll(KEY)
        return len(self.news) - before


@pytest.fixture
def scene() -> Scene:
    return Scene()


def service(*gateways: GatewayStatus) -> ServiceStatus:
    members = gateways[0].members if gateways else ()
    return ServiceStatus("chat", gateways=gateways, members=members, departure_order=("r1",))


async def test_the_coordinator_is_asked_and_nobody_else(scene: Scene) -> None:
    scene.network.pages["c"] = service(GatewayStatus("g", members=(member("r1"),)))
    assert await scene.poll() == 1
    assert scene.network.asked == ["c"]
    view = scene.observer.view(KEY)
    assert view is not None
    assert view.is_ready("r1")
    assert view.departures == ("r1",)


async def test_without_a_coordinator_the_gateways_are_asked_and_a_replica_is_lost_only_when_all_say_so(
    scene: Scene,
) -> None:
    scene.network.pages["g1"] = GatewayStatus("g1", members=(member("r1", "Lost"), member("r2", "Lost")))
    scene.network.pages["g2"] = GatewayStatus("g2", members=(member("r1", "Ready"), member("r2", "Lost")))
    await scene.poll()
    view = scene.observer.view(KEY)
    assert view is not None
    assert view.hearing("r1") is Hearing.BEATING
    assert view.hearing("r2") is Hearing.SILENT
    assert view.hearing("r3") is Hearing.UNKNOWN


async def test_a_coordinator_that_reaches_no_gateway_is_not_believed(scene: Scene) -> None:
    scene.network.pages |= {"c": service(), "g1": GatewayStatus("g1", members=(member("r1"),))}
    await scene.poll()
    view = scene.observer.view(KEY)
    assert view is not None
    assert view.is_ready("r1")


async def test_only_changes_that_matter_are_news(scene: Scene) -> None:
    def says(age: float, streams: int, state: MemberState = "Ready") -> None:
        one = msgspec.structs.replace(member("r1", state, token_age=age), streams=streams)
        scene.network.pages["c"] = service(GatewayStatus("g", members=(one,), streams=streams))

    says(0.5, 3)
    assert await scene.poll() == 1
    says(1.5, 9)
    assert await scene.poll() == 0
    says(61.0, 9)
    assert await scene.poll() == 1
    says(61.0, 9, "Lost")
    assert await scene.poll() == 1


async def test_latencies_alone_are_news_now_and_then(scene: Scene) -> None:
    news = 0
    for second in range(1, 61):
        histogram = Histogram(counts={3: second})
        scene.network.pages["c"] = service(GatewayStatus("g", ttft=histogram))
        news += await scene.poll()
    assert 60 / MEASURED_PERIOD_SECONDS - 1 <= news <= 60 / MEASURED_PERIOD_SECONDS + 1


async def test_silence_is_believed_after_a_while_and_what_was_heard_is_not_forgotten(scene: Scene) -> None:
    scene.network.pages["c"] = service(GatewayStatus("g", members=(member("r1"),)))
    await scene.poll()
    del scene.network.pages["c"]
    assert await scene.poll(PATIENCE_SECONDS - 1) == 0
    assert await scene.poll(1.0) == 1
    view = scene.observer.view(KEY)
    assert view is not None
    assert not view.answered
    assert view.hearing("r1") is Hearing.UNKNOWN
    scene.network.pages["c"] = service(GatewayStatus("g"))
    await scene.poll()
    view = scene.observer.view(KEY)
    assert view is not None
    assert view.hearing("r1") is Hearing.SILENT


async def test_nothing_is_known_before_the_first_poll(scene: Scene) -> None:
    assert scene.observer.view(KEY) is None
    assert await scene.poll(0.0) == 0
    assert scene.observer.view(KEY) is None
    assert await scene.poll(PATIENCE_SECONDS) == 1
