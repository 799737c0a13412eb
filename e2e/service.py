"""An LLMService on the local cluster, as its user and its tests look at it: by kubectl, and by its status ports."""

from __future__ import annotations

import base64
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from coxswain_crds import names
from coxswain_protocol.status import GatewayStatus, ServiceStatus
from e2e.cluster.waiting import wait_until

Status = TypeVar("Status", GatewayStatus, ServiceStatus)


class Kubectl(Protocol):
    """Runs kubectl against the cluster and returns its output; raises when it exits non-zero."""

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Arguments of kubectl, text for its standard input, seconds it may take."""


@dataclass(frozen=True)
class Pod:
    """The part of a Pod that the demo and the tests look at."""

    name: str
    uid: str
    component: str
    node: str | None
    ip: str | None
    ready: bool
    deleting: bool
    started: str
    restarts: int

    @classmethod
    def parse(cls, manifest: dict[str, Any]) -> Pod:
        """From the API's JSON."""
        status, metadata = manifest.get("status", {}), manifest["metadata"]
        conditions = {item["type"]: item["status"] for item in status.get("conditions", [])}
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            component=metadata["labels"].get(names.LABEL_COMPONENT, ""),
            node=manifest["spec"].get("nodeName"),
            ip=status.get("podIP"),
            ready=conditions.get("Ready") == "True",
            deleting="deletionTimestamp" in metadata,
            started=metadata["creationTimestamp"],
            restarts=sum(item.get("restartCount", 0) for item in status.get("containerStatuses", [])),
        )

    def processes(self) -> dict[int, str]:
        """Its processes on this machine: process id → command line. The nodes are local, so their cgroups tell."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"pod{self.uid}" in (entry / "cgroup").read_text():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
        return found

    def kill(self, part: str) -> None:
        """SIGKILL its processes whose command line contains `part`. Raises LookupError when there is none."""
        doomed = [pid for pid, command in self.processes().items() if part in command]
        if not doomed:
            raise LookupError(f"no process of {self.name} is called {part!r}: {sorted(self.processes().values())}")
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Service:
    """One LLMService of a running cluster."""

    kubectl: Kubectl
    name: str
    namespace: str = "default"

    def get(self) -> dict[str, Any]:
        """The LLMService object as it is now."""
        return self._json("get", "llmservice", self.name)

    def conditions(self) -> dict[str, dict[str, Any]]:
        """Its conditions by type."""
        return {item["type"]: item for item in self.get().get("status", {}).get("conditions", [])}

    def is_at_rest(self) -> bool:
        """Nothing of it is being rolled out, replaced or drained."""
        conditions = self.conditions()
        return all(conditions.get(kind, {}).get("status") == "False" for kind in ("Progressing", "Draining"))

    def pods(self, component: str) -> list[Pod]:
        """Its Pods of one component (gateway, coordinator, replica), terminating ones included."""
        selector = f"{names.LABEL_SERVICE}={self.name},{names.LABEL_COMPONENT}={component}"
        return [Pod.parse(item) for item in self._json("get", "pods", "-l", selector)["items"]]

    def all_pods(self) -> list[Pod]:
        """Every Pod of the namespace."""
        return [Pod.parse(item) for item in self._json("get", "pods")["items"]]

    def live(self, component: str, *, off: str | None = None) -> list[Pod]:
        """Its Ready Pods that nobody is deleting; with `off`, those not on that node."""
        return [pod for pod in self.pods(component) if pod.ready and not pod.deleting and (not off or pod.node != off)]

    def wait_ready(self, *, timeout: float = 180.0) -> None:
        """`kubectl wait` for this generation to serve."""
        wait = f"--timeout={timeout:g}s"
        self._run("wait", "--for=condition=Ready", f"llmservice/{self.name}", wait, timeout=timeout + 10)

    def wait_replicas(self, count: int, *, off: str | None = None, timeout: float = 180.0) -> list[Pod]:
        """Until exactly `count` replicas are Ready (not on node `off`), with their gateways seeing them."""

        def look() -> list[Pod]:
            live = self.live("replica", off=off)
            return live if len(live) == count and {pod.name for pod in live} <= self.members() else []

        return wait_until(look, what=f"{count} Ready replicas of {self.name}", timeout=timeout, period=0.5)

    def gateways(self) -> list[GatewayStatus]:
        """What each gateway that answers says of itself and its members."""
        answers = (self._status(pod, GatewayStatus) for pod in self.pods("gateway"))
        return [answer for answer in answers if answer is not None]

    def coordinator(self) -> ServiceStatus | None:
        """What the coordinator says, if it answers."""
        answers = (self._status(pod, ServiceStatus) for pod in self.live("coordinator"))
        return next((answer for answer in answers if answer is not None), None)

    def members(self) -> set[str]:
        """Replicas that every answering gateway would send a request to."""
        views = [{m.replica for m in gateway.members if m.state == "Ready"} for gateway in self.gateways()]
        return set.intersection(*views) if views else set()

    def observer(self) -> Callable[[], dict[str, int]]:
        """A quick look, without kubectl, for the middle of traffic: live streams by replica, over today's gateways."""
        pods = self.live("gateway")
        _ = self.token

        def look() -> dict[str, int]:
            total: dict[str, int] = {}
            for answer in filter(None, (self._status(pod, GatewayStatus) for pod in pods)):
                for member in answer.members:
                    total[member.replica] = total.get(member.replica, 0) + member.streams
            return total

        return look

    @cached_property
    def token(self) -> str:
        """The service's shared secret, read once."""
        return base64.b64decode(self._json("get", "secret", f"{self.name}-token")["data"]["token"]).decode()

    def _status(self, pod: Pod, kind: type[Status]) -> Status | None:
        if pod.ip is None:
            return None
        url = f"http://{pod.ip}:{names.STATUS_PORT}/internal/status"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=2) as reply:
                return msgspec.json.decode(reply.read(), type=kind)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return None

    def _run(self, *args: str, timeout: float = 60.0) -> str:
        return self.kubectl("-n", self.namespace, *args, timeout=timeout)

    def _json(self, *args: str) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self._run(*args, "-o", "json"))
        return parsed
