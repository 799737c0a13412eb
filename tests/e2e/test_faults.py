"""Something dies, leaves or changes under twenty streams, and none of them is lost or different."""

from __future__ import annotations

import json
import time

import pytest

from e2e.cluster import Cluster
from e2e.cluster.waiting import wait_until
from e2e.install import SYSTEM_NAMESPACE
from e2e.service import Pod, Service
from tests.e2e.conftest import UnderTraffic

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

ENGINE = "ray::EngineActor"


def busiest(service: Service) -> Pod:
    """The live replica with the most streams right now."""
    streams = service.observer()()
    return max(service.live("replica"), key=lambda pod: streams.get(pod.name, 0))


def spread(cluster: Cluster, service: Service) -> str:
    """A node that carries a replica and no gateway, after moving a replica there if earlier faults left none."""
    gateways = {pod.node for pod in service.live("gateway")}
    for _ in range(3):
        nodes = [pod.node for pod in service.live("replica") if pod.node]
        if free := [node for node in nodes if node not in gateways]:
            return free[0]
        doubled = next(pod.name for pod in service.live("replica") if nodes.count(pod.node or "") > 1)
        cluster.kubectl("delete", "pod", doubled)
        service.wait_replicas(3)
    raise AssertionError(f"every replica is on a node with a gateway: {nodes}")


def test_engine_process_killed(service: Service, under_traffic: UnderTraffic) -> None:
    under_traffic.assert_clean(lambda: busiest(service).kill(ENGINE))
    service.wait_replicas(3)


def test_replica_container_killed(service: Service, under_traffic: UnderTraffic) -> None:
    before = {pod.name: pod.restarts for pod in service.live("replica")}
    under_traffic.assert_clean(lambda: busiest(service).kill("coxswain_workers.replica"))
    after = {pod.name: pod.restarts for pod in service.wait_replicas(3)}
    assert after.keys() == before.keys(), "the container is restarted in its Pod; no Pod is replaced"
    assert sum(after.values()) == sum(before.values()) + 1


def test_replica_pod_deleted(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    under_traffic.assert_clean(lambda: cluster.kubectl("delete", "pod", busiest(service).name, "--wait=false"))
    service.wait_replicas(3)


def test_coordinator_killed(service: Service, under_traffic: UnderTraffic) -> None:
    under_traffic.assert_clean(lambda: service.live("coordinator")[0].kill("coxswain_workers.coordinator"))
    wait_until(service.coordinator, what="the coordinator back", timeout=60)


def test_both_operators_killed(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    replicas = {pod.uid for pod in service.pods("replica")}
    operators = Service(cluster.kubectl, "operator", SYSTEM_NAMESPACE).all_pods()

    def kill() -> None:
        for pod in operators:
            pod.kill("coxswain_operator")

    under_traffic.assert_clean(kill)
    cluster.kubectl("scale", "llmservice", service.name, "--replicas=4")
    try:
        service.wait_replicas(4, timeout=120)
    finally:
        cluster.kubectl("scale", "llmservice", service.name, "--replicas=3")
    service.wait_replicas(3)
    assert len(replicas & {pod.uid for pod in service.pods("replica")}) >= 2


def test_gateway_killed_breaks_only_its_own_streams(service: Service, under_traffic: UnderTraffic) -> None:
    victim = service.live("gateway")[0]
    through = {status.gateway: status.streams for status in service.gateways()}

    def kill() -> None:
        through.update({status.gateway: status.streams for status in service.gateways()})
        victim.kill("coxswain_gateway")

    verdict, _ = under_traffic.verdict(kill)
    assert verdict.different == ()
    assert len(verdict.lost) == through[victim.name]
    assert 0 < len(verdict.lost) < 20
    service.wait_ready()


def test_node_of_a_gateway_dies(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    """Streams through the dead gateway are cut; all others go on, also those that ran on the node's replica."""
    victim = service.live("gateway")[0]
    assert victim.node
    through: dict[str, int] = {}

    def kill() -> None:
        through.update({status.gateway: status.streams for status in service.gateways()})
        cluster.kill_node(victim.node or "")

    try:
        verdict, _ = under_traffic.verdict(kill, silence=15)
        assert verdict.different == ()
        assert len(verdict.lost) == through[victim.name]
        assert 0 < len(verdict.lost) < 20
        service.wait_replicas(3, off=victim.node)
        under_traffic.assert_clean(lambda: None)
    finally:
        cluster.heal_node(victim.node)


def test_gateways_restarted_one_by_one(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    under_traffic.assert_clean(lambda: cluster.kubectl("rollout", "restart", f"deployment/{service.name}-gateway"))
    cluster.kubectl("rollout", "status", f"deployment/{service.name}-gateway", "--timeout=180s", timeout=200)


def test_node_cut_off_and_healed(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    victim = spread(cluster, service)
    try:
        under_traffic.assert_clean(lambda: cluster.cut_node(victim))
        service.wait_replicas(3, off=victim)
    finally:
        cluster.heal_node(victim)
    wait_until(lambda: len(service.pods("replica")) == 3, what="the healed node's old Pod gone", timeout=90)


def test_node_drained(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    node = busiest(service).node
    assert node
    drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=200s")
    try:
        under_traffic.assert_clean(lambda: cluster.kubectl(*drain, timeout=220))
        service.wait_replicas(3, off=node)
    finally:
        cluster.kubectl("uncordon", node)


def test_api_server_down_for_two_minutes(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    before = {pod.uid for component in ("replica", "gateway", "coordinator") for pod in service.pods(component)}
    cluster.stop_api_server()
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            under_traffic.assert_clean(lambda: None)
    finally:
        cluster.start_api_server()
    nodes = ("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=150s")
    cluster.kubectl(*nodes, timeout=160)
    under_traffic.assert_clean(lambda: None)
    service.wait_ready()
    after = {pod.uid for component in ("replica", "gateway", "coordinator") for pod in service.pods(component)}
    assert after == before


def test_scale_down_under_traffic(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    try:
        under_traffic.assert_clean(
            lambda: cluster.kubectl("scale", "llmservice", service.name, "--replicas=1") and None
        )
        service.wait_replicas(1)
    finally:
        cluster.kubectl("scale", "llmservice", service.name, "--replicas=3")
    service.wait_replicas(3)


def test_changed_spec_rolls_every_replica(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    before = {pod.uid for pod in service.pods("replica")}
    patch = json.dumps({"spec": {"model": {"revision": "two"}}})
    try:
        under_traffic.assert_clean(
            lambda: cluster.kubectl("patch", "llmservice", service.name, "--type=merge", "-p", patch) and None
        )

        def rolled() -> bool:
            live = service.live("replica")
            return len(live) == 3 and not before & {pod.uid for pod in service.pods("replica")}

        wait_until(rolled, what="every replica replaced", timeout=240, period=1)
    finally:
        cluster.kubectl(
            "patch", "llmservice", service.name, "--type=merge", "-p", '{"spec": {"model": {"revision": null}}}'
        )
    service.wait_ready(timeout=240)
