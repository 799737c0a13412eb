"""A Kubernetes API without nodes: used by others' tests, so tried here."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from e2e.cluster import ClusterError, CommandError, ControlPlane

pytestmark = pytest.mark.apiserver

BARE_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "bare"},
    "spec": {"containers": [{"name": "main", "image": "none"}]},
}


def test_answers_kubectl_and_helm(control_plane: ControlPlane) -> None:
    namespaces = json.loads(control_plane.kubectl("get", "namespaces", "-o", "json"))
    assert "kube-system" in {item["metadata"]["name"] for item in namespaces["items"]}
    assert control_plane.helm("list", "--all-namespaces", "-o", "json").strip() == "[]"


def test_an_error_carries_what_kubectl_said(control_plane: ControlPlane) -> None:
    with pytest.raises(CommandError, match='namespaces "nowhere" not found') as caught:
        control_plane.kubectl("get", "namespace", "nowhere")
    assert caught.value.code == 1


def test_a_pod_that_is_not_restricted_is_refused(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "namespace", "strict")
    with pytest.raises(CommandError, match="violates PodSecurity"):
        control_plane.kubectl("-n", "strict", "apply", "-f", "-", stdin=json.dumps(BARE_POD))


def test_namespaces_go_away_when_deleted(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "namespace", "passing")
    control_plane.kubectl("delete", "namespace", "passing", "--timeout=30s")


def test_the_api_server_comes_back_with_its_data_and_leaves_nothing() -> None:
    with ControlPlane(controllers=False) as plane:
        plane.kubectl("create", "namespace", "kept")
        plane.stop_api_server(signal.SIGKILL)
        assert not plane.healthy()
        with pytest.raises(CommandError):
            plane.kubectl("get", "namespaces", timeout=20)
        plane.start_api_server()
        plane.kubectl("get", "namespace", "kept")
        plane.pause_api_server()
        assert not plane.healthy()
        plane.resume_api_server()
        assert plane.healthy()
        directory, pids = plane.kubeconfig.parent, [daemon.pid for daemon in plane.daemons()]
    assert not directory.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids if pid)


def test_asked_before_its_start_it_says_so() -> None:
    with pytest.raises(ClusterError, match="not started"):
        _ = ControlPlane().kubeconfig
