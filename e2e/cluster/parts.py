"""What a cluster is made of: its wire, control plane, nodes and forwarder; made from nothing, and swept away."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path

from rich.console import Console

from e2e.cluster import dns, image
from e2e.cluster.cgroups import Group
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.network import Lan, Subnets, choose_slot, delete_namespaces, used_slots
from e2e.cluster.node import ENTER, Node
from e2e.cluster.ports import free_ports
from e2e.cluster.processes import Daemon
from e2e.cluster.state import Layout, directory_of, exclusively, group_of, host_note, is_laid_out, names, state_home


class Parts:
    """Those of the cluster `name`, each found when it is first asked for; not to be used any more after `sweep`."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console

    @property
    def directory(self) -> Path:
        """Everything of this cluster, logs too."""
        return directory_of(self._name)

    @cached_property
    def layout(self) -> Layout:
        """How the cluster that is up was made. Raises ClusterError when none is."""
        return Layout.load(self._name)

    @cached_property
    def plane(self) -> ControlPlane:
        """Its control plane."""
        subnets = self.lan.subnets
        return ControlPlane(
            self.directory / "control-plane",
            address=subnets.host,
            services=subnets.services,
            scheduler=True,
            console=self._console,
            enter=self._entrance,
        )

    @cached_property
    def nodes(self) -> list[Node]:
        """Its nodes, dead ones too."""
        count = self.layout.nodes
        return [Node(i, count, self.directory / f"node-{i}", self.lan, self.plane) for i in range(1, count + 1)]

    @cached_property
    def forwarder(self) -> Daemon:
        """Carries loopback ports to gateways."""
        return Daemon("forwarder", self.directory)

    @cached_property
    def lan(self) -> Lan:
        """The wire that its nodes share with this machine."""
        return Lan(self._name, Subnets(self.layout.slot))

    @property
    def report(self) -> Path:
        """Where the forwarder says which port leads to which service."""
        return self.directory / "gateways.json"

    def start(self, count: int) -> None:
        """Make them all, with `count` nodes, where there is nothing. Raises ClusterError when one does not start."""
        self._step("network and control groups", partial(self._lay_out, count))
        self._step(f"API server, controllers, scheduler; containerd of {count} nodes", self._start_servers)
        self._step("nodes Ready", self._start_nodes)
        self._step("DNS", self._wait_dns)

    def sweep(self) -> None:
        """Take away what there is of this cluster, in whatever state it is; needs none of its files to be whole."""
        group_of(self._name).kill()
        self._reap()
        if is_laid_out(self._name):
            self.lan.delete()
        delete_namespaces(self._name)
        group_of(self._name).remove()
        shutil.rmtree(self.directory, ignore_errors=True)
        with exclusively(state_home() / "slots.lock"):
            if not names():
                host_note().restore()

    def keep_logs(self) -> Path:
        """Put a failed start's logs where taking it away leaves them. Returns the directory."""
        kept = Path(tempfile.mkdtemp(prefix=f"coxswain-{self._name}-logs-"))
        for log in self.directory.glob("**/*.log"):
            shutil.copy(log, kept / f"{log.parent.name}-{log.name}")
        return kept

    @cached_property
    def _host_group(self) -> Group:
        return Group(f"{group_of(self._name).name}/host")

    @property
    def _entrance(self) -> list[str]:
        return ["sh", "-c", ENTER.format(group=self._host_group.tracker), "sh"]

    def _step(self, what: str, act: Callable[[], None]) -> None:
        began = time.monotonic()
        with self._console.status(f"{what} …"):
            act()
        self._console.print(f"  [green]✓[/] {what} [dim]({time.monotonic() - began:.1f} s)[/]")

    def _lay_out(self, count: int) -> None:
        self.directory.mkdir(parents=True, mode=0o700)
        with exclusively(state_home() / "slots.lock"):
            host_note().prepare()
            taken = {Layout.load(name).slot for name in names()}
            [port] = free_ports(1)
            Layout(choose_slot(taken | used_slots()), count, port).save(self._name)
        self._host_group.create()
        self.lan.create()

    def _start_servers(self) -> None:
        with ThreadPoolExecutor() as pool:
            starts = [pool.submit(self.plane.start), *(pool.submit(node.start) for node in self.nodes)]
            for start in starts:
                start.result()

    def _start_nodes(self) -> None:
        for node in self.nodes:
            node.register()
        replicas = min(2, len(self.nodes))
        self.plane.kubectl("apply", "-f", "-", stdin=dns.manifests(self.lan.subnets.dns, replicas=replicas))
        self._start_forwarder()
        for node in self.nodes:
            node.wait_registered()
        for node in self.nodes:
            node.registration.wait(ready=True)

    def _start_forwarder(self) -> None:
        command = [sys.executable, "-m", "e2e.cluster.forwarder"]
        arguments = [str(self.plane.kubeconfig), str(self.report), str(self.layout.gateway_port)]
        self.forwarder.start([*self._entrance, *command, *arguments], directory=image.SOURCES)

    def _wait_dns(self) -> None:
        self.plane.kubectl("-n", dns.NAMESPACE, "rollout", "status", "deployment/coredns", "--timeout=60s", timeout=70)

    def _reap(self) -> None:
        """Those dead that are children of this process."""
        daemons = [self.__dict__["forwarder"]] if "forwarder" in self.__dict__ else []
        daemons += self.plane.daemons() if "plane" in self.__dict__ else []
        daemons += [daemon for node in self.__dict__.get("nodes", ()) for daemon in node.daemons()]
        for daemon in daemons:
            daemon.stop(signal.SIGKILL)
