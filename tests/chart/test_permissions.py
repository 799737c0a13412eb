"""The roles of the chart against what the operator asks the API server for, read from the API server's audit log.

The operator runs as the chart's service account: a verb that is missing is answered 403 and fails the test, and a verb
that is granted and never asked for fails it too.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.ports import free_ports
from e2e.cluster.waiting import wait_until
from tests.chart.conftest import NAMESPACE, Object
from tests.chart.test_install import NAME, get, install
from tests.crds.manifests import llm_service

pytestmark = pytest.mark.apiserver

USER = f"system:serviceaccount:{NAMESPACE}:{NAME}"
Permission = tuple[str, str, str]
"""(API group, resource, verb)."""

SELDOM = {("events.k8s.io", "events", "patch")}
"""Used when the same event happens again, minutes later."""


@dataclass(frozen=True)
class Audited:
    """An API server that writes a line for each request of the operator."""

    plane: ControlPlane
    log: Path

    def requests(self) -> list[Object]:
        """What the operator asked for so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Audited]:
    log, policy = tmp_path / "audit.log", tmp_path / "audit-policy.yaml"
    rules = [{"level": "Metadata", "users": [USER]}, {"level": "None"}]
    kind = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}
    policy.write_text(yaml.safe_dump(kind | {"omitStages": ["RequestReceived"], "rules": rules}))
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={log}", "--audit-log-mode=blocking"]
    with ControlPlane(api_server_flags=flags) as plane:
        install(plane, "webhook.failurePolicy=Ignore")
        yield Audited(plane, log)


def kubeconfig(plane: ControlPlane, path: Path) -> Path:
    """For the chart's service account."""
    token = plane.kubectl("create", "token", NAME, "-n", NAMESPACE).strip()
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path.write_text(json.dumps(config))
    return path


@contextmanager
def operator(plane: ControlPlane, directory: Path) -> Iterator[None]:
    """The operator as a process, with the chart's certificate and the chart's permissions."""
    for name, value in get(plane, "secret", f"{NAME}-certificate")["data"].items():
        (directory / name).write_bytes(base64.b64decode(value))
    metrics, webhook = free_ports(2)
    command = [
        sys.executable, "-m", "coxswain_operator", "run", f"--kubeconfig={kubeconfig(plane, directory / 'config')}",
        f"--namespace={NAMESPACE}", "--identity=test", "--worker-image=example/coxswain:1", f"--metrics-port={metrics}",
        f"--webhook-port={webhook}", f"--webhook-cert={directory}",
    ]  # fmt: skip
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0, (directory / "log").read_text()[-3000:]
        finally:
            process.kill()
            process.wait()


def names_of(plane: ControlPlane, kind: str) -> list[str]:
    return plane.kubectl("get", kind, "-l", "app.kubernetes.io/managed-by=coxswain", "-o", "name").split()


def life_of_a_service(plane: ControlPlane) -> None:
    """Make, scale, repair, and meet an object of somebody else's."""
    plane.kubectl("create", "secret", "generic", "second-token", "--from-literal=of=somebody-else")
    for name in ("first", "second"):
        spec = {"model": {"uri": "pvc://models/tiny"}, "scaling": {"replicas": 2}}
        plane.kubectl("apply", "-f", "-", stdin=json.dumps(llm_service(spec, name=name)))

    def replicas(count: int) -> bool:
        selector = "coxswain.dev/service=first,app.kubernetes.io/component=replica"
        listed = plane.kubectl("get", "pods", "-l", selector, "--field-selector=status.phase!=Failed", "-o", "json")
        return len([pod for pod in json.loads(listed)["items"] if "deletionTimestamp" not in pod["metadata"]]) == count

    wait_until(lambda: replicas(2), what="two replica Pods", timeout=60)
    wait_until(lambda: bool(names_of(plane, "pdb")), what="the PodDisruptionBudget", timeout=30)
    token = get(plane, "secret", "first-token", "default")["data"]["token"]
    plane.kubectl("patch", "secret", "first-token", "--type=json", "-p", '[{"op": "remove", "path": "/data/token"}]')

    def repaired() -> bool:
        return bool(get(plane, "secret", "first-token", "default")["data"].get("token") == token)

    wait_until(repaired, what="the Secret to be repaired", timeout=30)
    plane.kubectl("scale", "llms/first", "--replicas=1")
    wait_until(lambda: replicas(1), what="one replica Pod", timeout=60)


def permissions(rules: list[Object]) -> set[Permission]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def granted(plane: ControlPlane) -> set[Permission]:
    cluster = get(plane, "clusterrole", f"{NAMESPACE}-{NAME}")["rules"]
    return permissions(cluster + get(plane, "role", f"{NAME}-lease")["rules"])


def used(requests: list[Object]) -> set[Permission]:
    found = set()
    for request in requests:
        about = request.get("objectRef", {})
        if "resource" in about:
            resource = "/".join(part for part in (about["resource"], about.get("subresource")) if part)
            found.add((about.get("apiGroup", ""), resource, request["verb"]))
    return found


def made_by_patch(requests: list[Object]) -> set[Permission]:
    """Server-side apply of what is not there yet asks for `create` too, under the verb `patch`."""
    return {
        (request["objectRef"].get("apiGroup", ""), request["objectRef"]["resource"], "create")
        for request in requests
        if request["verb"] == "patch" and request["responseStatus"]["code"] == 201
    }


def test_the_operator_has_every_verb_it_uses_and_no_other(audited: Audited, tmp_path: Path) -> None:
    with operator(audited.plane, tmp_path):
        life_of_a_service(audited.plane)
    requests = audited.requests()
    refused = [(r["verb"], r["requestURI"]) for r in requests if r["responseStatus"]["code"] in (400, 403, 422)]
    assert refused == []
    assert granted(audited.plane) - used(requests) - made_by_patch(requests) <= SELDOM
    assert used(requests) <= granted(audited.plane)
