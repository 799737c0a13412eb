"""A whole cluster: control plane, nodes, DNS, and a loopback port to the gateways."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from e2e.cluster import bytecode, image, packages
from e2e.cluster.binaries import binaries
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError, UnfitError
from e2e.cluster.network import MAX_NODES
from e2e.cluster.node import Node
from e2e.cluster.parts import Parts
from e2e.cluster.registration import READY_SECONDS
from e2e.cluster.state import exclusively, is_laid_out, state_home
from e2e.cluster.waiting import wait_until

NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


class Cluster:
    """A Kubernetes of `nodes` nodes on this machine. Needs root on Linux.

    `with Cluster(name="demo") as cluster: cluster.kubectl("get", "nodes")`. Several may be up, under different names; a
    second process opens one that is up by its name alone. Raises ClusterError for a name or a number it cannot take.
    """

    def __init__(self, *, name: str = "coxswain", nodes: int = 3, console: Console | None = None) -> None:
        if not NAME.fullmatch(name):
            raise UnfitError(f"name {name!r}: take up to 20 small letters, digits and hyphens, beginning with a letter")
        if not 1 <= nodes <= MAX_NODES:
            raise UnfitError(f"nodes {nodes}: take 1 to {MAX_NODES}")
        self.name = name
        self.console = console or Console()
        self._count = nodes
        self._parts = Parts(name, self.console)

    # What a user of it needs

    @property
    def kubeconfig(self) -> Path:
        """A configuration for the administrator."""
        return self.plane.kubeconfig

    @property
    def bin_dir(self) -> Path:
        """The folder with kubectl and helm."""
        return binaries(self.console)

    @property
    def gateway(self) -> str:
        """The address of the oldest LLMService's gateways, on the loopback."""
        return f"http://127.0.0.1:{self._parts.layout.gateway_port}"

    def gateways(self) -> dict[str, str]:
        """Addresses on the loopback by `NAMESPACE/NAME`, of the services that have gateways."""
        if not self._parts.report.exists():
            return {}
        ports: dict[str, int] = json.loads(self._parts.report.read_text())
        return {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}

    def gateway_url(self, service: str, *, namespace: str = "default", timeout: float = 30.0) -> str:
        """The address of one LLMService's gateways; waits until its Service is there. Raises ClusterError if not."""
        key = f"{namespace}/{service}"
        wait_until(lambda: key in self.gateways(), what=f"a Service of gateways for {key}", timeout=timeout)
        return self.gateways()[key]

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl as administrator; returns its output. Raises CommandError when it exits non-zero."""
        return self.plane.kubectl(*args, stdin=stdin, timeout=timeout)

    def helm(self, *args: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run helm as administrator; returns its output. Raises CommandError when it exits non-zero."""
        return self.plane.helm(*args, stdin=stdin, timeout=timeout)

    # Up and down

    def prepare(self) -> None:
        """Have what `up` needs: system packages, Kubernetes compiled. Raises UnfitError if this machine will not do."""
        if os.geteuid() != 0 or sys.platform != "linux":
            raise UnfitError("a cluster with nodes needs root on Linux (network namespaces, mounts, control groups)")
        packages.ensure(self.console)
        _ = self.bin_dir
        bytecode.compile_modules(self.console)
        self._check_readable()

    def up(self) -> None:
        """Make the cluster, from nothing: what an earlier run of this name left goes first."""
        self.prepare()
        with self._locked():
            self._sweep()
            try:
                self._parts.start(self._count)
            except ClusterError as error:
                kept = self._parts.keep_logs()
                self._sweep()
                raise ClusterError(f"{error}\nlogs of this failed start: {kept}") from error
            except BaseException:
                self._sweep()
                raise

    def down(self) -> None:
        """Take everything away: processes, mounts, namespaces, links, control groups, files. Safe at any time."""
        with self._locked():
            self._sweep()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()

    # Trouble

    def kill_node(self, name: str) -> None:
        """A power cut: the node falls silent, then all on it dies. Returns when it is dead."""
        self.node(name).kill()

    def cut_node(self, name: str) -> None:
        """A pulled cable: all on the node goes on, and hears and reaches nobody."""
        self.node(name).cut()

    def heal_node(self, name: str) -> None:
        """Bring a node back: plug a cut one in; start a killed one afresh, its disk empty. Returns when it is Ready."""
        node = self.node(name)
        began = datetime.datetime.now(datetime.UTC)
        if node.alive:
            self._parts.lan.connect(name)
        else:
            node.delete()
            node.start()
            node.register()
        node.registration.wait_heard(began)
        node.registration.wait(ready=True)

    def wait_node(self, name: str, *, ready: bool, timeout: float = READY_SECONDS) -> None:
        """Until Kubernetes says that the node is Ready, or that it is not."""
        self.node(name).registration.wait(ready=ready, timeout=timeout)

    def is_ready(self, name: str) -> bool:
        """Whether Kubernetes says that the node is Ready."""
        return self.node(name).registration.is_ready()

    def is_whole(self) -> bool:
        """Whether the cluster is up, with all nodes running and Ready."""
        if not is_laid_out(self.name) or not self.plane.healthy():
            return False
        daemons = (*self.plane.daemons(), self._parts.forwarder)
        return all(each.pid for each in daemons) and all(n.alive and self.is_ready(n.name) for n in self.nodes)

    def stop_api_server(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the API server by this signal; returns when it is gone. Nodes and Pods go on."""
        self.plane.stop_api_server(number)

    def start_api_server(self) -> None:
        """Start it again; returns when it is ready."""
        self.plane.start_api_server()

    # Parts

    @property
    def directory(self) -> Path:
        """Everything of this cluster, logs too."""
        return self._parts.directory

    @property
    def plane(self) -> ControlPlane:
        """Its control plane. Raises ClusterError when the cluster is not up."""
        return self._parts.plane

    @property
    def nodes(self) -> list[Node]:
        """Its nodes, dead ones too. Raises ClusterError when the cluster is not up."""
        return self._parts.nodes

    def node(self, name: str) -> Node:
        """A node by its name. Raises ClusterError naming those there are."""
        found = {node.name: node for node in self.nodes}
        if name not in found:
            raise ClusterError(f"no node {name!r}; there are {', '.join(found)}")
        return found[name]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with exclusively(state_home() / f"{self.name}.lock"):
            yield

    def _check_readable(self) -> None:
        closed = image.unreadable([Path(path) for path in image.loans(self.bin_dir).values()])
        if closed:
            paths = " ".join(map(str, closed))
            raise UnfitError(f"containers run as another user and cannot read {paths}; do: chmod -R o+rX {paths}")

    def _sweep(self) -> None:
        self._parts.sweep()
        self._parts = Parts(self.name, self.console)
