"""A node: namespaces of its own for network and mounts, with containerd, kubelet and kube-proxy in them.

Nothing that a node mounts is seen outside it: `/run` is a fresh tmpfs there, `/var/lib/kubelet`, `/var/lib/cni` and
`/var/log` lie in the node's directory. When its last process dies, its mounts, sockets and Pods' namespaces are gone.
"""

from __future__ import annotations

import shutil
import signal
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from e2e.cluster import image, runtime
from e2e.cluster.cgroups import Group
from e2e.cluster.commands import run
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.network import Lan
from e2e.cluster.packages import cni_directory
from e2e.cluster.processes import Daemon
from e2e.cluster.registration import PERIOD, READY_SECONDS, Registration
from e2e.cluster.waiting import wait_until

ACCELERATOR_LABEL = "coxswain.dev/accelerator=simulated"
DIRECTORIES = ("containerd", "opt", "net.d", "kubelet", "cni", "log")

ENTER = """\
set -e
echo $$ > {group}/cgroup.procs
exec "$@"
"""
"""Counts a process among the node's before it becomes the program."""

ISOLATE = """\
set -e
echo $$ > {group}/cgroup.procs
mount -t tmpfs -o mode=755 run /run
for place in /var/lib/kubelet:kubelet /var/lib/cni:cni /var/log:log; do
  mount --bind {directory}/"${{place#*:}}" "${{place%%:*}}"
done
exec "$@"
"""


@dataclass(frozen=True)
class Node:
    """Node number `index` (from 1) of a cluster of `total`; its files are in `directory`."""

    index: int
    total: int
    directory: Path
    lan: Lan
    plane: ControlPlane

    @property
    def name(self) -> str:
        """Its name in Kubernetes."""
        return f"node-{self.index}"

    @property
    def address(self) -> str:
        """Its address on the cluster's wire."""
        return self.lan.subnets.node(self.index)

    @cached_property
    def group(self) -> Group:
        """Control group of everything on the node."""
        return Group(f"coxswain.{self.lan.name}/{self.name}")

    @cached_property
    def containerd(self) -> Daemon:
        """Runs the containers; its process is the door to the node's namespaces."""
        return Daemon("containerd", self.directory)

    @cached_property
    def kubelet(self) -> Daemon:
        """Runs the Pods."""
        return Daemon("kubelet", self.directory)

    @cached_property
    def proxy(self) -> Daemon:
        """Routes cluster IPs."""
        return Daemon("kube-proxy", self.directory)

    def daemons(self) -> list[Daemon]:
        """Its processes that are no container's."""
        return [self.containerd, self.kubelet, self.proxy]

    @property
    def alive(self) -> bool:
        """Whether its daemons run."""
        return all(daemon.pid for daemon in self.daemons())

    @property
    def connected(self) -> bool:
        """Whether its plug is in."""
        return self.lan.connected(self.name)

    def start(self) -> None:
        """Make the node and start what needs no API server: returns when containerd has the image."""
        for name in DIRECTORIES:
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        marker = self.directory / "kubelet" / "device-plugins" / "simulated"
        marker.parent.mkdir(exist_ok=True)
        marker.touch()  # a kubelet that finds this folder empty takes all accelerators off its Node
        self._daemons_group.create()
        self.lan.join(self.name, self.index, range(1, self.total + 1))
        self._configure_containerd()
        self._start_containerd()
        archive = self.directory / "image.tar"
        image.write(archive, self.plane.bin_dir)
        self.enter("ctr", "-n", "k8s.io", "images", "import", str(archive))

    def register(self) -> None:
        """Start kubelet and kube-proxy. The API server must be ready."""
        issued = self._issue()
        subnets = self.lan.subnets
        config = runtime.kubelet_config(address=self.address, authority=issued, group=self.group.name, dns=subnets.dns)
        (self.directory / "kubelet.yaml").write_text(config)
        command = [
            str(self.plane.bin_dir / "kubelet"),
            f"--config={self.directory / 'kubelet.yaml'}",
            f"--kubeconfig={issued / 'node.kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--node-labels={ACCELERATOR_LABEL}",
        ]
        self.kubelet.start([*self._entrance, *command])
        config = runtime.proxy_config(kubeconfig=issued / "proxy.kubeconfig", node=self.name)
        (self.directory / "proxy.yaml").write_text(config)
        self.proxy.start(
            [*self._entrance, str(self.plane.bin_dir / "kube-proxy"), f"--config={self.directory / 'proxy.yaml'}"]
        )

    @property
    def registration(self) -> Registration:
        """The node as Kubernetes sees it."""
        return Registration(self.plane, self.name)

    def wait_registered(self) -> None:
        """Until Kubernetes knows the node; then it gets its accelerators. Raises ClusterError if the kubelet ends."""

        def registered() -> bool:
            if self.kubelet.pid is None:
                raise ClusterError(f"the kubelet of {self.name} ended:\n{self.kubelet.last_words()}")
            return self.registration.exists()

        what = f"{self.name} to register, see {self.kubelet.log}"
        wait_until(registered, what=what, timeout=READY_SECONDS, period=PERIOD)
        self.registration.equip()

    def enter(self, *command: str, timeout: float = 60.0) -> str:
        """Run a command in the node's namespaces; returns its output. Raises CommandError when it exits non-zero."""
        return run(*self._nsenter, *command, timeout=timeout)

    def kill(self) -> None:
        """As a power cut: silence first, then every process of the node dies by SIGKILL."""
        self.lan.cut(self.name)
        self._kill()

    def cut(self) -> None:
        """As a pulled cable: everything on the node goes on, and hears nothing."""
        self.lan.cut(self.name)

    def delete(self) -> None:
        """Take the node away, whatever state it is in."""
        self._kill()
        for daemon in self.daemons():
            daemon.stop(signal.SIGKILL)
        self.lan.leave(self.name)
        self.group.remove()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kill(self) -> None:
        for daemon in self.daemons():
            daemon.send(signal.SIGKILL)
        self.group.kill()

    @cached_property
    def _daemons_group(self) -> Group:
        return Group(f"{self.group.name}/daemons")

    @property
    def _nsenter(self) -> list[str]:
        if (pid := self.containerd.pid) is None:
            raise ClusterError(f"{self.name} is not running")
        return ["nsenter", f"--target={pid}", "--net", "--mount"]

    @property
    def _entrance(self) -> list[str]:
        return [*self._nsenter, "sh", "-c", ENTER.format(group=self._daemons_group.tracker), "sh"]

    def _configure_containerd(self) -> None:
        plugins = cni_directory()
        if plugins is None:
            raise ClusterError("the CNI plug-ins are not installed")
        snapshotter = (
            "native" if run("stat", "-f", "-c", "%T", str(self.directory)).strip() == "overlayfs" else "overlayfs"
        )
        config = runtime.containerd_config(
            self.directory, programs=self.plane.bin_dir, plugins=plugins, snapshotter=snapshotter
        )
        (self.directory / "containerd.toml").write_text(config)
        spec = runtime.container_spec(run("ctr", "oci", "spec"), image.loans(self.plane.bin_dir))
        (self.directory / "container.json").write_text(spec)
        network = runtime.network_config(self.lan.subnets.pods(self.index))
        (self.directory / "net.d" / "10-coxswain.conflist").write_text(network)

    def _start_containerd(self) -> None:
        script = ISOLATE.format(group=self._daemons_group.tracker, directory=self.directory)
        inside = ["nsenter", f"--net=/run/netns/{self.lan.node_namespace(self.name)}"]
        isolated = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh"]
        self.containerd.start([*inside, *isolated, "containerd", f"--config={self.directory / 'containerd.toml'}"])
        wait_until(self._containerd_serves, what=f"containerd of {self.name}, see {self.containerd.log}", timeout=30)

    def _containerd_serves(self) -> bool:
        if self.containerd.pid is None:
            raise ClusterError(f"containerd of {self.name} ended:\n{self.containerd.last_words()}")
        door = Path(f"/proc/{self.containerd.pid}/root/run/containerd/containerd.sock")
        with socket.socket(socket.AF_UNIX) as connection:
            return door.exists() and connection.connect_ex(str(door)) == 0

    def _issue(self) -> Path:
        """Certificates and kubeconfigs of the node; returns their directory."""
        issued = self.directory / "certificates"
        issued.mkdir(exist_ok=True, mode=0o700)
        authority = self.plane.authority
        (issued / "ca.crt").write_bytes(authority.certificate.read_bytes())
        served = authority.issue(
            f"kubelet-{self.name}", user=f"system:node:{self.name}", hosts=[self.address, self.name]
        )
        shutil.copy(served.certificate, issued / "kubelet.crt")
        shutil.copy(served.key, issued / "kubelet.key")
        url, user = self.plane.url, f"system:node:{self.name}"
        authority.kubeconfig(issued / "node.kubeconfig", server=url, user=user, groups=["system:nodes"])
        authority.kubeconfig(issued / "proxy.kubeconfig", server=url, user="system:kube-proxy")
        return issued
