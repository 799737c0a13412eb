"""Upgrade, uninstall, install again, delete: what stays, what goes, and that streams do not notice."""

from __future__ import annotations

import pytest

from e2e.cluster import Cluster
from e2e.cluster.waiting import wait_until
from e2e.install import SYSTEM_NAMESPACE, apply_service, install_chart
from e2e.service import Service
from tests.e2e.conftest import UnderTraffic

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

KINDS = "pods,services,deployments,secrets,poddisruptionbudgets"


def of_the_service(cluster: Cluster, name: str) -> list[str]:
    """Every object that belongs to a service."""
    return cluster.kubectl("get", KINDS, "-l", f"coxswain.dev/service={name}", "-o", "name").split()


def test_upgrade_under_traffic(cluster: Cluster, service: Service, under_traffic: UnderTraffic) -> None:
    before = {pod.uid for pod in service.pods("replica")}
    under_traffic.assert_clean(lambda: install_chart(cluster.helm, values={"operator.logLevel": "debug"}))
    install_chart(cluster.helm)
    assert {pod.uid for pod in service.pods("replica")} == before


def test_uninstalled_operator_leaves_services_running(
    cluster: Cluster, service: Service, under_traffic: UnderTraffic
) -> None:
    before = {pod.uid for pod in service.pods("replica")}
    try:
        cluster.helm("uninstall", "coxswain", "--namespace", SYSTEM_NAMESPACE, "--wait")
        under_traffic.assert_clean(lambda: None)
        assert "llmservices.coxswain.dev" in cluster.kubectl("get", "crds", "-o", "name")
        assert cluster.kubectl("get", "validatingwebhookconfigurations", "-o", "name") == ""
    finally:
        install_chart(cluster.helm)
    service.wait_ready()
    assert {pod.uid for pod in service.pods("replica")} == before


def test_deleted_service_leaves_nothing(cluster: Cluster, service: Service) -> None:
    assert of_the_service(cluster, service.name)
    try:
        cluster.kubectl("delete", "llmservice", service.name)
        wait_until(
            lambda: not of_the_service(cluster, service.name),
            what=f"every object of {service.name} to go",
            timeout=120,
            period=1,
        )
    finally:
        apply_service(cluster.kubectl).wait_ready()
