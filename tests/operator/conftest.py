"""A real API server with Coxswain's resources, and operators as processes beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.ports import free_ports
from e2e.cluster.waiting import wait_until
from tests.crds.conftest import Client

MANIFESTS = Path(__file__).parents[2] / "crds" / "manifests"
GROUP = "/apis/coxswain.dev/v1alpha1"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/coxswain-operator"
Object = dict[str, Any]


def eventually(check: Callable[[], Any], what: str, *, timeout: float = 30.0) -> Any:
    """The first true answer of `check`. Fails with what was waited for."""
    return wait_until(check, what=what, timeout=timeout)


@dataclass
class Namespace:
    """One namespace of the API server, and questions about it."""

    plane: ControlPlane
    client: Client
    name: str

    def get(self, path: str) -> Object | None:
        status, answer = self.client.request("GET", path)
        return answer if status == 200 else None

    def service(self, name: str = "chat") -> Object:
        return self.get(f"{GROUP}/namespaces/{self.name}/llmservices/{name}") or {}

    def conditions(self, name: str = "chat") -> dict[str, Object]:
        found = self.service(name).get("status", {}).get("conditions", [])
        return {condition["type"]: condition for condition in found}

    def is_degraded(self, status: str, name: str = "chat") -> bool:
        return bool(self.conditions(name).get("Degraded", {}).get("status") == status)

    def pods(self, component: str = "replica") -> list[Object]:
        selector = f"app.kubernetes.io/component={component}"
        path = f"/api/v1/namespaces/{self.name}/pods"
        _, listed = self.client.request("GET", path, labelSelector=selector)
        return list(listed.get("items", []))

    def pod_names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]}

    def apply(self, spec: Object | None = None, name: str = "chat", **metadata: Any) -> Object:
        body = {
            "apiVersion": "coxswain.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": name, "namespace": self.name} | metadata,
            "spec": {"model": {"uri": "pvc://models/tiny"}} | (spec or {}),
        }
        path = f"{GROUP}/namespaces/{self.name}/llmservices/{name}"
        status, answer = self.client.request(
            "PATCH", path, body, kind="application/apply-patch+yaml", fieldManager="user", force="true"
        )
        assert status in (200, 201), answer
        return answer

    def delete(self, name: str = "chat") -> None:
        self.client.request("DELETE", f"{GROUP}/namespaces/{self.name}/llmservices/{name}")

    def become_ready(self, pod: str) -> None:
        """What a kubelet would say of a Pod whose readiness probe succeeds."""
        self.patch_pod_status(pod, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})

    def patch_pod_status(self, pod: str, status: Object) -> None:
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/status"
        code, answer = self.client.request(
            "PATCH", path, {"status": status}, kind="application/strategic-merge-patch+json"
        )
        assert code == 200, answer


@dataclass
class Operator:
    """`python -m coxswain_operator run` as a process of its own."""

    namespace: Namespace
    logs: Path
    identity: str = "first"
    flags: tuple[str, ...] = ()
    watch_all: bool = False
    process: subprocess.Popen[bytes] | None = None
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    _log: IO[bytes] | None = None

    def start(self) -> Operator:
        plane = self.namespace.plane
        self._log = self.logs.open("ab")
        command = [
            *(sys.executable, "-m", "coxswain_operator", "run", "--worker-image=worker:1", "--gateway-image=gateway:1"),
            *(f"--kubeconfig={plane.kubeconfig}", f"--namespace={self.namespace.name}", f"--identity={self.identity}"),
            *(f"--metrics-port={self.ports[0]}", f"--webhook-port={self.ports[1]}", *self.flags),
            *(() if self.watch_all else (f"--watch-namespace={self.namespace.name}",)),
        ]
        self.process = subprocess.Popen(command, stderr=self._log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return self

    def ready(self) -> Operator:
        eventually(lambda: self.page("/ready")[0] == 200, f"the operator to be ready, see {self.logs}")
        return self

    def leading(self) -> Operator:
        eventually(lambda: self.metric("coxswain_leader") == 1, f"the operator to lead, see {self.logs}")
        return self

    def page(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [line for line in self.page("/metrics")[1].splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def patches(self) -> float:
        """PATCHes so far."""
        lines = [line for line in self.page("/metrics")[1].splitlines() if 'verb="PATCH"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("coxswain_api_requests_total"))

    def is_quiet(self) -> bool:
        """No PATCH within half a second, while nothing is due."""
        before = self.patches()
        time.sleep(0.5)
        return self.metric("coxswain_queue_depth") == 0 and self.patches() == before

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal, wait for the end, return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=15)

    def lines(self) -> list[Object]:
        return [json.loads(line) for line in self.logs.read_text().splitlines() if line.startswith("{")]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=15)
        if self._log is not None:
            self._log.close()


@pytest.fixture(scope="session")
def client(control_plane: ControlPlane) -> Iterator[Client]:
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(MANIFESTS))
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(MANIFESTS))
    connection = Client(control_plane)
    yield connection
    connection.close()


@pytest.fixture
def namespace(control_plane: ControlPlane, client: Client, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    name = f"op-{time.time_ns() // 1000 % 10**9}"
    control_plane.kubectl("create", "namespace", name)
    space = Namespace(control_plane, client, name)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually(lambda: space.get(account), "the default service account")
    yield space
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def alone(everywhere: Operator) -> None:
    """The shared operator is not running: two that both lead would undo each other's work."""
    everywhere.close()


@pytest.fixture
def operators(alone: None, namespace: Namespace, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    started: list[Operator] = []

    def start(identity: str = "first", *flags: str, watch_all: bool = False) -> Operator:
        operator = Operator(namespace, tmp_path / f"{identity}.log", identity, flags, watch_all)
        started.append(operator)
        return operator.start()

    yield start
    for operator in started:
        operator.close()


@pytest.fixture
def own(operators: Callable[..., Operator]) -> Operator:
    """An operator that leads, and minds this test's namespace alone: its counters tell what this test caused."""
    return operators().ready().leading()


@pytest.fixture(scope="session")
def everywhere(
    control_plane: ControlPlane, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    control_plane.kubectl("create", "namespace", "op-everywhere")
    space = Namespace(control_plane, client, "op-everywhere")
    operator = Operator(space, tmp_path_factory.mktemp("operator") / "log", "everywhere", watch_all=True)
    yield operator
    operator.close()


@pytest.fixture
def operator(everywhere: Operator) -> Operator:
    """The operator of all namespaces that tests share; started again where one ended it."""
    if everywhere.process is None or everywhere.process.poll() is not None:
        everywhere.close()
        everywhere.start()
    return everywhere.ready().leading()
