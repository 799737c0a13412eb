"""A node as Kubernetes sees it."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.waiting import wait_until

ACCELERATORS = {"nvidia.com/gpu": "2"}
"""Simulated ones on each node: two, so that a lost node's replicas fit on the others."""
READY_SECONDS = 60.0
PERIOD = 0.2


@dataclass(frozen=True)
class Registration:
    """The Node object `name`."""

    plane: ControlPlane
    name: str

    def exists(self) -> bool:
        """Whether the node has registered."""
        return self._node() is not None

    def is_ready(self) -> bool:
        """Whether Kubernetes says that it is Ready."""
        return (self._condition() or {}).get("status") == "True"

    def wait(self, *, ready: bool, timeout: float = READY_SECONDS) -> None:
        """Until Kubernetes says that it is Ready, or that it is not. Raises ClusterError after `timeout` seconds."""

        def said() -> bool:
            condition = self._condition()
            return condition is not None and (condition["status"] == "True") is ready

        wait_until(said, what=f"{self.name} to be {'Ready' if ready else 'NotReady'}", timeout=timeout, period=PERIOD)

    def wait_heard(self, since: datetime.datetime) -> None:
        """Until the node has reported after this moment (its reports say whole seconds)."""

        def heard() -> bool:
            condition = self._condition()
            return condition is not None and datetime.datetime.fromisoformat(condition["lastHeartbeatTime"]) > since

        wait_until(heard, what=f"a sign of life from {self.name}", timeout=READY_SECONDS, period=PERIOD)

    def equip(self) -> None:
        """Give the node its accelerators. The kubelet leaves alone what it does not know."""
        status = {"status": {"capacity": ACCELERATORS, "allocatable": ACCELERATORS}}
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
        self.plane.kubectl("patch", "node", self.name, *patch)

    def _condition(self) -> dict[str, Any] | None:
        conditions = (self._node() or {}).get("status", {}).get("conditions", [])
        return next((item for item in conditions if item["type"] == "Ready"), None)

    def _node(self) -> dict[str, Any] | None:
        return self.plane.get(f"/api/v1/nodes/{self.name}")
