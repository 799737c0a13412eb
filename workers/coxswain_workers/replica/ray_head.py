"""A Ray cluster of one process group: head of this Pod, and of nothing else."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coxswain_workers.replica.ray_node import HeadNode

log = logging.getLogger(__name__)

_ENVIRONMENT: Mapping[str, str] = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the engine sees all the devices of its Pod
    "RAY_memory_monitor_refresh_ms": "0",  # the container's limit decides, not the node's memory
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # when its GCS is gone, so is this cluster: do not wait a minute
    "RAY_ROTATION_MAX_BYTES": "4194304",
    "RAY_ROTATION_BACKUP_COUNT": "1",
}


_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class RayHead:
    """Ray in this Pod. `start` it from the main thread: its processes die with the thread that started them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Unix sockets lie in it
        """Everything Ray writes; removed by `stop`."""
        self._output = contextlib.ExitStack()
        self._node: HeadNode | None = None

    def start(self) -> None:
        """Start the head and connect to it. Raises whatever Ray raises when it cannot start."""
        _prepare_environment()
        self._output.enter_context(contextlib.redirect_stdout(_LogWriter()))
        self._output.enter_context(contextlib.redirect_stderr(_LogWriter()))
        from coxswain_workers.replica.ray_node import connect, start_head  # reads the environment when imported

        logging.getLogger("ray").setLevel(logging.WARNING)
        self._node = start_head(self.folder)
        connect(self._node)

    def alive(self) -> bool:
        """All of Ray's own processes run."""
        return self._node is not None and bool(self._node.remaining_processes_alive())  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """End Ray's processes and remove its files."""
        if self._node is not None:
            from coxswain_workers.replica.ray_node import disconnect

            disconnect(self._node)
        self._output.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class _LogWriter(io.TextIOBase):
    """Where Ray's driver thread prints what it has to say."""

    def write(self, text: str) -> int:
        if line := _COLOUR.sub("", text).strip():
            log.warning("ray: %s", line)
        return len(text)


def _prepare_environment() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("USER", "coxswain")  # a container's user id may have no name, at which getpass fails
