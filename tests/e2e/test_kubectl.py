"""What kubectl shows of a service, and does to it."""

from __future__ import annotations

import json

import pytest

from e2e.cluster import Cluster, CommandError
from e2e.cluster.waiting import wait_until
from e2e.service import Service

pytestmark = pytest.mark.e2e


def test_get_shows_the_columns(cluster: Cluster, service: Service) -> None:
    heading, row = cluster.kubectl("get", "llms").splitlines()
    assert heading.split()[:4] == ["NAME", "URL", "READY", "REASON"]
    assert row.split()[0] == service.name
    assert row.split()[2] == "True"


def test_explain_knows_every_field(cluster: Cluster) -> None:
    text = cluster.kubectl("explain", "llmservice.spec", "--recursive")
    for field in ("model", "uri", "objectives", "interToken", "resilience", "replay", "scaling", "replicas"):
        assert field in text
    assert "percentile" in cluster.kubectl("explain", "llmservice.spec.objectives.ttft.percentile").lower()


def test_describe_tells_conditions_and_events(cluster: Cluster, service: Service) -> None:
    text = cluster.kubectl("describe", "llmservice", service.name)
    assert "Conditions:" in text
    assert "Events:" in text
    assert "<none>" not in text.split("Events:")[1]


def test_logs_are_json_with_the_replica(cluster: Cluster, service: Service) -> None:
    pod = service.live("replica")[0]
    lines = cluster.kubectl("logs", pod.name).splitlines()
    assert any(f'"replica":"{pod.name}"' in line.replace(" ", "") for line in lines)


def test_exec_runs_as_nobody(cluster: Cluster, service: Service) -> None:
    pod = service.live("replica")[0]
    uid = cluster.kubectl("exec", pod.name, "--", "python", "-c", "import os; print(os.getuid())")
    assert int(uid) > 0


def test_scale_up_and_down(cluster: Cluster, service: Service) -> None:
    try:
        cluster.kubectl("scale", "llmservice", service.name, "--replicas=4")
        service.wait_replicas(4)
    finally:
        cluster.kubectl("scale", "llmservice", service.name, "--replicas=3")
    service.wait_replicas(3)
    wait_until(lambda: len(service.pods("replica")) == 3, what="three replica Pods", timeout=60)


WRONG = {
    "spec.model.uri": {"model": {"uri": "ftp://nowhere/model"}},
    "spec.scaling.replicas": {"model": {"uri": "pvc://tiny-model/"}, "scaling": {"replicas": -1}},
    "spec.modle": {"model": {"uri": "pvc://tiny-model/"}, "modle": {}},
    "spec.objectives.ttft.percentile": {
        "model": {"uri": "pvc://tiny-model/"},
        "objectives": {"ttft": {"percentile": 195, "target": "1s"}},
    },
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_manifest_is_refused_with_its_field(cluster: Cluster, field: str) -> None:
    manifest = {
        "apiVersion": "coxswain.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "wrong", "namespace": "default"},
        "spec": WRONG[field],
    }
    with pytest.raises(CommandError) as caught:
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    assert field in str(caught.value.stderr)
