"""Command lines and settings of the servers of a control plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.certificates import Authority


@dataclass(frozen=True)
class Servers:
    """The command line of each server, for files in `directory`, programs in `bin_dir`, and `ports` by use."""

    directory: Path
    bin_dir: Path
    authority: Authority
    address: str
    services: str
    ports: Mapping[str, int]

    def etcd(self) -> list[str]:
        """etcd's, with certificates on both sides of every connection."""
        issued = self.authority.directory
        client, peer = (f"https://127.0.0.1:{self.ports[name]}" for name in ("etcd", "peer"))
        return [
            str(self.bin_dir / "etcd"),
            f"--data-dir={self.directory / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            *(f"--{side}cert-file={issued / 'server.crt'}" for side in ("", "peer-")),
            *(f"--{side}key-file={issued / 'server.key'}" for side in ("", "peer-")),
            *(f"--{side}trusted-ca-file={issued / 'ca.crt'}" for side in ("", "peer-")),
            *(f"--{side}client-cert-auth" for side in ("", "peer-")),
        ]

    def api_server(self) -> list[str]:
        """The API server's."""
        issued = self.authority.directory
        loopback = self.address.startswith("127.")
        return [
            str(self.bin_dir / "kube-apiserver"),
            f"--etcd-servers=https://127.0.0.1:{self.ports['etcd']}",
            f"--etcd-cafile={issued / 'ca.crt'}",
            f"--etcd-certfile={issued / 'kubelet-client.crt'}",
            f"--etcd-keyfile={issued / 'kubelet-client.key'}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.ports['api']}",
            # An Endpoints object may not hold a loopback address.
            f"--endpoint-reconciler-type={'none' if loopback else 'master-count'}",
            f"--service-cluster-ip-range={self.services}",
            f"--tls-cert-file={issued / 'server.crt'}",
            f"--tls-private-key-file={issued / 'server.key'}",
            f"--client-ca-file={issued / 'ca.crt'}",
            f"--cert-dir={issued}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.authority.accounts_key}",
            f"--service-account-signing-key-file={self.authority.accounts_key}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--admission-control-config-file={self.directory / 'admission.yaml'}",
            f"--kubelet-client-certificate={issued / 'kubelet-client.crt'}",
            f"--kubelet-client-key={issued / 'kubelet-client.key'}",
            f"--kubelet-certificate-authority={issued / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            # Webhooks are called at Pod addresses: this host has no route to a Service's.
            "--enable-aggregator-routing=true",
            "--profiling=false",
        ]

    def controllers(self) -> list[str]:
        """The controller manager's."""
        issued = self.authority.directory
        return [
            *self.client("kube-controller-manager"),
            "--use-service-account-credentials",
            # The default, 20 requests a second, makes its own start take five seconds.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            f"--service-account-private-key-file={self.authority.accounts_key}",
            f"--root-ca-file={issued / 'ca.crt'}",
            # A node that has been silent for this long is NotReady.
            "--node-monitor-grace-period=12s",
            "--node-monitor-period=2s",
        ]

    def client(self, name: str) -> list[str]:
        """Of a server that is a client of the API: controller manager or scheduler."""
        kubeconfig = self.directory / f"{name}.kubeconfig"
        paths = [f"--{use}kubeconfig={kubeconfig}" for use in ("", "authentication-", "authorization-")]
        return [str(self.bin_dir / name), *paths, "--leader-elect=false", "--secure-port=0", "--profiling=false"]


def write_admission(directory: Path) -> None:
    """Have Pod Security refuse what is not "restricted", but in the system's own namespace."""
    configuration: dict[str, Any] = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "restricted", "enforce-version": "latest"},
        "exemptions": {"namespaces": ["kube-system"]},
    }
    admission = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "PodSecurity", "configuration": configuration}],
    }
    (directory / "admission.yaml").write_text(yaml.safe_dump(admission))
