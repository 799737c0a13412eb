"""The processes of a Ray head, without those a replica has no use for.

`ray.init` starts nine processes with 12 s of CPU and 490 MB; without autoscaler monitor, dashboard and log monitor it
is six with 6.5 s and 320 MB, and the dashboard's start is no longer waited for. Ray has no setting for that, so the
head is assembled from the class behind `ray.init`, which is private: pyproject pins Ray's minor version
(docs/decisions/005-lean-ray-head.md). Import after the environment is set.
"""

from __future__ import annotations

from pathlib import Path

import ray
from ray._private.node import Node
from ray._private.parameter import RayParams

NODE_IP = "127.0.0.2"
"""Loopback, so that nothing outside the Pod can be a node of it; Ray would replace 127.0.0.1 by the host's address."""
OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Close to the least that Ray accepts; nothing is ever stored in it."""


class HeadNode(Node):
    """A head without its dashboard."""

    def start_api_server(self, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        """Start nothing, and publish that the dashboard has no address."""
        self._webui_url = ""
        self.get_gcs_client().internal_kv_put(b"webui:url", b"", True, b"dashboard")  # type: ignore[no-untyped-call]


def start_head(folder: Path) -> HeadNode:
    """Start the head's processes, which keep their files in `folder` and die with this thread."""
    parameters = RayParams(
        node_ip_address=NODE_IP,
        temp_dir=str(folder),
        plasma_directory=str(folder),  # /dev/shm is small in containers
        object_store_memory=OBJECT_STORE_BYTES,
        num_cpus=0,  # no idle workers are started; actors ask for none
        num_gpus=0,
        gcs_server_port=0,
        no_monitor=True,
        include_log_monitor=False,  # type: ignore[arg-type]  # annotated str, used as a bool
        include_dashboard=False,
    )
    return HeadNode(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)


def connect(node: HeadNode) -> None:
    """Make this process the cluster's driver."""
    ray.init(node.gcs_address, configure_logging=False, log_to_driver=False, _node_ip_address=NODE_IP)


def disconnect(node: HeadNode) -> None:
    """End the cluster."""
    ray.shutdown()
    node.kill_all_processes(check_alive=False, allow_graceful=True)
