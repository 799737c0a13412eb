"""Settings of a node's containerd and of the containers it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e.cluster.image import PAUSE

STATUS = Path("/proc/self/status")
SYS_RESOURCE = 24
"""The bit of CAP_SYS_RESOURCE (linux/capability.h)."""

CONFIG = """\
version = 2
root = "{directory}/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
                    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
                    "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"

[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
sandbox_image = "{pause}"
restrict_oom_score_adj = {restrict}
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{directory}/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "{directory}/container.json"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{programs}/runc-sorted"
SystemdCgroup = false
"""


def may_lower_oom_score() -> bool:
    """Whether this process has CAP_SYS_RESOURCE. Without it runc dies over a container's oom_score_adj."""
    effective = next(line for line in STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> SYS_RESOURCE & 1)


def containerd_config(directory: Path, *, programs: Path, plugins: Path, snapshotter: str) -> str:
    """containerd's config.toml for the node whose files are in `directory`."""
    restrict = "false" if may_lower_oom_score() else "true"
    return CONFIG.format(
        directory=directory, programs=programs, plugins=plugins, pause=PAUSE, restrict=restrict, snapshotter=snapshotter
    )


def container_spec(default: str, loans: dict[str, str]) -> str:
    """containerd's own container specification (JSON), with directories of the machine lent to every container."""
    spec: dict[str, Any] = json.loads(default)
    spec["mounts"] += [
        {"destination": inside, "source": outside, "type": "bind", "options": ["rbind", "ro", "nosuid", "nodev"]}
        for inside, outside in loans.items()
    ]
    return json.dumps(spec)


def network_config(pods: str) -> str:
    """The CNI configuration of a node: a routed link per Pod (so that Services also work between Pods of one node)."""
    ipam = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": "coxswain",
            "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}],
        }
    )


def kubelet_config(*, address: str, authority: Path, group: str, dns: str) -> str:
    """The kubelet's configuration (JSON, which is YAML)."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": address,
            "readOnlyPort": 0,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority / "ca.crt")}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(authority / "kubelet.crt"),
            "tlsPrivateKeyFile": str(authority / "kubelet.key"),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{group}",
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "clusterDNS": [dns],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "nodeLeaseDurationSeconds": 10,
            "nodeStatusUpdateFrequency": "3s",
            "nodeStatusReportFrequency": "3s",
            # The image is on the node and comes from nowhere else, and a full disk is the machine's own business.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        }
    )


def proxy_config(*, kubeconfig: Path, node: str) -> str:
    """kube-proxy's configuration (JSON, which is YAML)."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": node,
            "mode": "iptables",
            "detectLocalMode": "InterfaceNamePrefix",
            "detectLocal": {"interfaceNamePrefix": "veth"},
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "oomScoreAdj": 0,
            # These are of the whole machine, not of the namespace: they stay as they are.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
    )
