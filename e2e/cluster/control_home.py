"""The directory of a control plane: its ports, its certificates, and the files of its servers."""

from __future__ import annotations

import ipaddress
import json
import ssl
from functools import cached_property
from pathlib import Path

from e2e.cluster.certificates import Authority
from e2e.cluster.ports import free_ports
from e2e.cluster.processes import Daemon
from e2e.cluster.servers import write_admission

ADMIN_GROUP = "system:masters"


class ControlHome:
    """What a control plane has in `directory`, for an API server at `address` that gives Services those addresses.

    A later process finds it all there again; only `prepare` makes anything.
    """

    def __init__(self, directory: Path, *, address: str, services: str) -> None:
        self.directory = directory
        self.address = address
        self.services = services
        self.authority = Authority(directory / "certificates")
        """Signs the certificates of this cluster."""
        self.kubeconfig = directory / "admin.kubeconfig"
        """A configuration for the administrator."""
        self.etcd = Daemon("etcd", directory)
        self.api_server = Daemon("kube-apiserver", directory)
        self.controllers = Daemon("kube-controller-manager", directory)
        self.scheduler = Daemon("kube-scheduler", directory)

    @cached_property
    def ports(self) -> dict[str, int]:
        """By their use: etcd, peer, api."""
        ports: dict[str, int] = json.loads(self._ports_file.read_text())
        return ports

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://{self.address}:{self.ports['api']}"

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """The administrator's side of a connection to the API server."""
        issued = self.authority.directory
        context = ssl.create_default_context(cafile=self.authority.certificate)
        context.load_cert_chain(issued / "admin.crt", issued / "admin.key")
        return context

    def prepare(self) -> None:
        """Draw ports and issue certificates, unless that was done before."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._ports_file.exists():
            self._ports_file.write_text(json.dumps(dict(zip(("etcd", "peer", "api"), free_ports(3), strict=True))))
            self._write_certificates()
            write_admission(self.directory)

    @property
    def _ports_file(self) -> Path:
        return self.directory / "ports.json"

    def _write_certificates(self) -> None:
        authority = self.authority
        authority.create()
        first = str(next(ipaddress.ip_network(self.services).hosts()))
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        authority.issue("server", user="kube-apiserver", hosts=["localhost", "127.0.0.1", self.address, first, *names])
        authority.issue("kubelet-client", user="kube-apiserver", groups=[ADMIN_GROUP])
        authority.kubeconfig(self.kubeconfig, server=self.url, user="admin", groups=[ADMIN_GROUP])
        for name in (self.controllers.name, self.scheduler.name):
            authority.kubeconfig(self.directory / f"{name}.kubeconfig", server=self.url, user=f"system:{name}")
