"""What the recommender does with gateways that come, go, and miss a round."""

from __future__ import annotations

from coxswain_protocol.traffic import EngineKind, StepLine, Traffic
from coxswain_workers.addresses import GatewayAddresses
from coxswain_workers.coordinator.recommender import Recommender
from coxswain_workers.coordinator.settings import Settings

GATEWAYS = GatewayAddresses.parse("chat-gateways:8002")

SETTINGS = Settings(
    service="chat", gateways=GATEWAYS, token="t", ttft_seconds=5.0, inter_token_seconds=0.05, startup_seconds=1.0
)
KIND = EngineKind(2, 100_000, 10, 2048, StepLine(0.01, 1e-5, 1e-4, 1e-8))


def busy(streams: int, *, arrivals: int = 0) -> Traffic:
    return Traffic("p.1", (100,) * arrivals, ((50, 1.0),) * streams, context=150 * streams, kinds=(KIND,))


def replicas(recommender: Recommender) -> int:
    assert recommender.latest is not None
    return recommender.latest.replicas


def test_the_gateways_streams_add_up() -> None:
    recommender = Recommender(SETTINGS)
    for now in range(0, 61, 15):
        recommender.take({"one": busy(30), "two": busy(60)}, now=float(now))
    assert 5 <= replicas(recommender) <= 11, "90 streams, 9 for each replica, some of which end meanwhile"
    assert recommender.cursor("one") == "p.1"
    assert recommender.cursor("three") == ""


def test_a_gateway_that_misses_one_round_has_not_lost_its_streams() -> None:
    recommender = Recommender(SETTINGS)
    for now in range(0, 601, 15):
        recommender.take({"one": busy(30), "two": busy(60)}, now=float(now))
    before = replicas(recommender)
    recommender.take({"one": busy(30)}, now=615.0)
    assert replicas(recommender) == before
    for now in range(630, 1231, 15):
        recommender.take({"one": busy(30)}, now=float(now))
    assert replicas(recommender) < before, "two is gone for good"


def test_what_happened_before_a_gateway_was_known_is_not_of_this_round() -> None:
    recommender, other = Recommender(SETTINGS), Recommender(SETTINGS)
    for now in (0.0, 15.0):
        recommender.take({"one": busy(1)}, now=now)
        other.take({"one": busy(1)}, now=now)
    recommender.take({"one": busy(1), "two": busy(1, arrivals=1000)}, now=30.0)
    other.take({"one": busy(1), "two": busy(1)}, now=30.0)
    assert recommender.latest == other.latest


def test_without_an_open_replica_nothing_is_known_of_engines() -> None:
    recommender = Recommender(SETTINGS)
    for now in (0.0, 15.0):
        recommender.take({"one": Traffic("p.1")}, now=now)
    assert recommender.latest is None
