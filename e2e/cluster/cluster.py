"""A whole cluster: control plane, nodes, DNS, and a loopback port to the gateways."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from e2e.cluster import bytecode, dns, image, packages
from e2e.cluster.binaries import binaries
from e2e.cluster.cgroups import Group
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError, UnfitError
from e2e.cluster.network import MAX_NODES, Lan, Subnets, choose_slot, delete_namespaces, used_slots
from e2e.cluster.node import ENTER, Node
from e2e.cluster.ports import free_ports
from e2e.cluster.processes import Daemon
from e2e.cluster.registration import READY_SECONDS
from e2e.cluster.state import (
    Layout,
    directory_of,
    exclusively,
    group_of,
    host_note,
    is_laid_out,
    names,
    state_home,
)
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
        return f"http://127.0.0.1:{self.layout.gateway_port}"

    def gateways(self) -> dict[str, str]:
        """Addresses on the loopback by `NAMESPACE/NAME`, of the services that have gateways."""
        if not self._report.exists():
            return {}
        ports: dict[str, int] = json.loads(self._report.read_text())
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
                self._start()
            except ClusterError as error:
                kept = self._keep_logs()
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
            self._lan.connect(name)
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
        daemons = (*self.plane.daemons(), self.forwarder)
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
        return directory_of(self.name)

    @cached_property
    def layout(self) -> Layout:
        """How the cluster that is up was made. Raises ClusterError when none is."""
        return Layout.load(self.name)

    @cached_property
    def plane(self) -> ControlPlane:
        """Its control plane."""
        subnets = self._lan.subnets
        return ControlPlane(
            self.directory / "control-plane",
            address=subnets.host,
            services=subnets.services,
            scheduler=True,
            console=self.console,
            enter=self._entrance,
        )

    @cached_property
    def nodes(self) -> list[Node]:
        """Its nodes, dead ones too."""
        count = self.layout.nodes
        return [Node(i, count, self.directory / f"node-{i}", self._lan, self.plane) for i in range(1, count + 1)]

    def node(self, name: str) -> Node:
        """A node by its name. Raises ClusterError naming those there are."""
        found = {node.name: node for node in self.nodes}
        if name not in found:
            raise ClusterError(f"no node {name!r}; there are {', '.join(found)}")
        return found[name]

    @cached_property
    def forwarder(self) -> Daemon:
        """Carries loopback ports to gateways."""
        return Daemon("forwarder", self.directory)

    @cached_property
    def _lan(self) -> Lan:
        return Lan(self.name, Subnets(self.layout.slot))

    @property
    def _report(self) -> Path:
        return self.directory / "gateways.json"

    @cached_property
    def _host_group(self) -> Group:
        return Group(f"{group_of(self.name).name}/host")

    @property
    def _entrance(self) -> list[str]:
        return ["sh", "-c", ENTER.format(group=self._host_group.tracker), "sh"]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with exclusively(state_home() / f"{self.name}.lock"):
            yield

    def _start(self) -> None:
        self._step("network and control groups", self._lay_out)
        self._step(f"API server, controllers, scheduler; containerd of {self._count} nodes", self._start_servers)
        self._step("nodes Ready", self._start_nodes)
        self._step("DNS", self._wait_dns)

    def _step(self, what: str, act: Callable[[], None]) -> None:
        began = time.monotonic()
        with self.console.status(f"{what} …"):
            act()
        self.console.print(f"  [green]✓[/] {what} [dim]({time.monotonic() - began:.1f} s)[/]")

    def _lay_out(self) -> None:
        self.directory.mkdir(parents=True, mode=0o700)
        with exclusively(state_home() / "slots.lock"):
            host_note().prepare()
            taken = {Layout.load(name).slot for name in names()}
            [port] = free_ports(1)
            Layout(choose_slot(taken | used_slots()), self._count, port).save(self.name)
        self._host_group.create()
        self._lan.create()

    def _start_servers(self) -> None:
        with ThreadPoolExecutor() as pool:
            starts = [pool.submit(self.plane.start), *(pool.submit(node.start) for node in self.nodes)]
            for start in starts:
                start.result()

    def _start_nodes(self) -> None:
        for node in self.nodes:
            node.register()
        replicas = min(2, len(self.nodes))
        self.kubectl("apply", "-f", "-", stdin=dns.manifests(self._lan.subnets.dns, replicas=replicas))
        self._start_forwarder()
        for node in self.nodes:
            node.wait_registered()
        for node in self.nodes:
            node.registration.wait(ready=True)

    def _start_forwarder(self) -> None:
        command = [sys.executable, "-m", "e2e.cluster.forwarder"]
        arguments = [str(self.kubeconfig), str(self._report), str(self.layout.gateway_port)]
        self.forwarder.start([*self._entrance, *command, *arguments], directory=image.SOURCES)

    def _wait_dns(self) -> None:
        self.kubectl("-n", dns.NAMESPACE, "rollout", "status", "deployment/coredns", "--timeout=60s", timeout=70)

    def _check_readable(self) -> None:
        closed = image.unreadable([Path(path) for path in image.loans(self.bin_dir).values()])
        if closed:
            paths = " ".join(map(str, closed))
            raise UnfitError(f"containers run as another user and cannot read {paths}; do: chmod -R o+rX {paths}")

    def _sweep(self) -> None:
        """Take away what there is of this cluster, in whatever state it is; needs none of its files to be whole."""
        group_of(self.name).kill()
        self._reap()
        if is_laid_out(self.name):
            self._lan.delete()
        delete_namespaces(self.name)
        group_of(self.name).remove()
        shutil.rmtree(self.directory, ignore_errors=True)
        for part in ("layout", "plane", "nodes", "forwarder", "_lan"):
            self.__dict__.pop(part, None)
        with exclusively(state_home() / "slots.lock"):
            if not names():
                host_note().restore()

    def _reap(self) -> None:
        """Those dead that are children of this process."""
        daemons = [self.__dict__["forwarder"]] if "forwarder" in self.__dict__ else []
        daemons += self.plane.daemons() if "plane" in self.__dict__ else []
        daemons += [daemon for node in self.__dict__.get("nodes", ()) for daemon in node.daemons()]
        for daemon in daemons:
            daemon.stop(signal.SIGKILL)

    def _keep_logs(self) -> Path:
        """Put a failed start's logs where taking it away leaves them. Returns the directory."""
        kept = Path(tempfile.mkdtemp(prefix=f"coxswain-{self.name}-logs-"))
        for log in self.directory.glob("**/*.log"):
            shutil.copy(log, kept / f"{log.parent.name}-{log.name}")
        return kept
