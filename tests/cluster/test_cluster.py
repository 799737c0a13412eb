"""A whole cluster: Pods that are not root, a node that dies and comes back, nothing left afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from e2e.cluster import Cluster, CommandError, leftovers
from e2e.cluster.image import LOCAL, SOURCES
from e2e.cluster.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root")]

NAME = "cluster-tests"
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
GATEWAY_LABELS = {"app.kubernetes.io/name": "coxswain", "coxswain.dev/service": "echo"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(name=NAME, nodes=2, console=Console(file=sys.stderr)) as cluster:
        yield cluster
    assert leftovers(NAME) == []


def pod(name: str, code: str, **spec: Any) -> str:
    """A restricted Pod that runs Python code on one simulated accelerator."""
    container = {
        "name": "main",
        "image": LOCAL,
        "command": ["python", "-c", code],
        "securityContext": RESTRICTED,
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        **spec.pop("container", {}),
    }
    metadata = {"name": name, "labels": {"app": name}}
    settings = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": settings})


def wait_phase(cluster: Cluster, name: str, phase: str) -> None:
    cluster.kubectl("wait", f"pod/{name}", f"--for=jsonpath={{.status.phase}}={phase}", "--timeout=60s", timeout=70)


def test_a_pod_runs_this_tree_as_another_user(cluster: Cluster) -> None:
    code = "import os, torch, coxswain_protocol; print('uid', os.getuid(), torch.ones(2).sum().item())"
    cluster.kubectl("apply", "-f", "-", stdin=pod("imports", code))
    wait_phase(cluster, "imports", "Succeeded")
    assert cluster.kubectl("logs", "imports") == "uid 65532 2.0\n"


def test_a_pod_s_volume_does_not_cover_what_the_machine_lends_below_it(cluster: Cluster) -> None:
    """As for a clone in /tmp, where Pods with a read-only root mount a volume."""
    above = str(SOURCES.parent)
    assert above != "/", "clone the repository into a directory, not into the root"
    mounts = {"volumeMounts": [{"name": "above", "mountPath": above}]}
    code = f"import coxswain_protocol; open('{above}/written', 'w').write('yes')"
    cluster.kubectl(
        "apply", "-f", "-", stdin=pod("above", code, container=mounts, volumes=[{"name": "above", "emptyDir": {}}])
    )
    wait_phase(cluster, "above", "Succeeded")


def test_what_the_machine_lends_is_read_only(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=pod("writer", "import time; time.sleep(600)"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/writer", "--timeout=60s", timeout=70)
    for place in ("/usr", str(SOURCES), sys.prefix):
        with pytest.raises(CommandError, match="Read-only file system"):
            cluster.kubectl("exec", "writer", "--", "touch", f"{place}/written")


def test_names_resolve_and_services_lead_to_pods(cluster: Cluster) -> None:
    code = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"
    cluster.kubectl("apply", "-f", "-", stdin=pod("resolves", code))
    wait_phase(cluster, "resolves", "Succeeded")
    assert cluster.kubectl("logs", "resolves").startswith("198.18.")


def test_a_volume_of_the_machine_reaches_a_pod(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("volume")
    (folder / "weights").write_text("seven")
    folder.chmod(0o755)
    modes, size = ["ReadOnlyMany"], {"storage": "1Gi"}
    volume = {"accessModes": modes, "capacity": size, "hostPath": {"path": str(folder)}, "storageClassName": ""}
    claim = {"accessModes": modes, "resources": {"requests": size}, "storageClassName": "", "volumeName": "model"}
    specs: dict[str, object] = {"PersistentVolume": volume, "PersistentVolumeClaim": claim}
    for kind, spec in specs.items():
        manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "model"}, "spec": spec}
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    mounts = {"volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}]}
    volumes = [{"name": "model", "persistentVolumeClaim": {"claimName": "model", "readOnly": True}}]
    reader = pod("reader", "print(open('/model/weights').read())", container=mounts, volumes=volumes)
    cluster.kubectl("apply", "-f", "-", stdin=reader)
    wait_phase(cluster, "reader", "Succeeded")
    assert cluster.kubectl("logs", "reader") == "seven\n"


def test_a_service_of_gateways_has_a_loopback_port_even_without_the_api_server(cluster: Cluster) -> None:
    code = "from http.server import *; HTTPServer(('', 8000), SimpleHTTPRequestHandler).serve_forever()"
    ready = {"readinessProbe": {"httpGet": {"port": 8000, "path": "/"}, "periodSeconds": 1}}
    cluster.kubectl("apply", "-f", "-", stdin=pod("echo", code, container=ready))
    spec = {"selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": 8000}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo", "labels": GATEWAY_LABELS}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({**service, "spec": spec}))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/echo", "--timeout=60s", timeout=70)

    def answers(url: str) -> bool:
        done = subprocess.run(["curl", "-sf", "-m", "2", "-o", os.devnull, url], check=False, timeout=10)
        return done.returncode == 0

    url = cluster.gateway_url("echo")
    wait_until(lambda: answers(url), what="the gateway to be known", timeout=10)
    assert answers(cluster.gateway), "the only service has the common port, too"
    cluster.stop_api_server(signal.SIGKILL)
    try:
        assert answers(url)
    finally:
        cluster.start_api_server()


def test_a_killed_node_falls_silent_and_comes_back(cluster: Cluster) -> None:
    cluster.kill_node("node-2")
    assert not cluster.node("node-2").group.pids()
    cluster.wait_node("node-2", ready=False, timeout=25)
    assert not cluster.is_whole()
    cluster.heal_node("node-2")
    assert cluster.is_whole()
    found = json.loads(cluster.kubectl("get", "node", "node-2", "-o", "json"))
    assert found["status"]["allocatable"]["nvidia.com/gpu"] == "2"


def test_a_cut_node_goes_on_and_comes_back(cluster: Cluster) -> None:
    node = cluster.node("node-1")
    before = node.containerd.pid
    cluster.cut_node("node-1")
    assert not node.connected
    cluster.wait_node("node-1", ready=False, timeout=25)
    cluster.heal_node("node-1")
    assert cluster.is_whole()
    assert node.containerd.pid == before


def test_another_run_starts_where_one_was_killed() -> None:
    """Killed as soon as its first process runs: the next `up` clears that away, and `down` leaves nothing."""
    name = "cut-short"
    command = [sys.executable, "-m", "e2e.cluster", "up", "--name", name, "--nodes", "1"]
    cluster = Cluster(name=name, nodes=1, console=Console(file=sys.stderr))
    with subprocess.Popen(command, cwd=SOURCES, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        etcd = cluster.directory / "control-plane" / "etcd.pid"
        wait_until(etcd.exists, what="the first run to start etcd", timeout=60)
        first.kill()
    assert leftovers(name) != []
    try:
        cluster.up()
        assert cluster.is_whole()
    finally:
        cluster.down()
    assert leftovers(name) == []
