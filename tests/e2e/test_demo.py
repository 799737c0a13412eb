"""The demo's path: a node dies under twenty streams, and nobody but the operator notices."""

from __future__ import annotations

import asyncio

import pytest

from e2e.cluster import Cluster
from e2e.cluster.waiting import wait_until
from e2e.demo import choose_victim, strike, wait_replaced
from e2e.service import Service
from e2e.traffic import Traffic, mixed
from tests.e2e.conftest import UnderTraffic

pytestmark = pytest.mark.e2e


def test_a_node_dies_under_twenty_streams(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    victim = choose_victim(service)
    traffic = Traffic(url=cluster.gateway_url("tiny"), model="tiny", asks=mixed(20, 400))
    try:
        loss = asyncio.run(strike(service, cluster, traffic, victim))
        assert loss.struck > 0
        for stream in traffic.streams:
            assert stream.outcome == under_traffic.undisturbed()[stream.ask.name], stream.ask.name
        assert wait_replaced(service, loss) < 120
    finally:
        cluster.heal_node(victim)
    wait_until(lambda: len(service.pods("replica")) == 3, what="the healed node's old Pod gone", timeout=90)


def test_the_same_requests_twice_give_the_same_tokens(under_traffic: UnderTraffic) -> None:
    under_traffic.assert_clean(lambda: None)
