"""CoreDNS as any cluster runs it: a Deployment on two nodes behind the `kube-dns` Service."""

from __future__ import annotations

import json
from typing import Any

from e2e.cluster.image import LOCAL, PROGRAMS

COREFILE = """\
.:5353 {
    errors
    health :8080 {
        lameduck 1s
    }
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        pods disabled
        ttl 2
    }
    cache 2
}
"""
"""Answers are kept for two seconds: a gateway that moved is found again soon."""

LABELS = {"k8s-app": "kube-dns"}
NAMESPACE = "kube-system"
META = {"name": "coredns", "namespace": NAMESPACE}


def manifests(address: str, *, replicas: int = 2) -> str:
    """Everything of CoreDNS, with `address` as its cluster IP, as a JSON list for `kubectl apply`."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*_access(), *_objects(address, replicas)]})


def _access() -> list[dict[str, Any]]:
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    name = {"name": "system:coredns"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", **name}
    subject = {"kind": "ServiceAccount", **META}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": META},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": name, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": name,
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def _objects(address: str, replicas: int) -> list[dict[str, Any]]:
    ports = [{"name": f"dns-{p.lower()}", "port": 53, "targetPort": 5353, "protocol": p} for p in ("UDP", "TCP")]
    service = {"clusterIP": address, "selector": LABELS, "ports": ports}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": META, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": NAMESPACE, "labels": LABELS},
            "spec": service,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": META,
            "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": _template()},
        },
    ]


def _template() -> dict[str, Any]:
    apart = {"labelSelector": {"matchLabels": LABELS}, "topologyKey": "kubernetes.io/hostname"}
    tolerations = [
        {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}
        for state in ("unreachable", "not-ready")
    ]
    spec = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "tolerations": tolerations,
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
        "containers": [_container()],
    }
    return {"metadata": {"labels": LABELS}, "spec": spec}


def _container() -> dict[str, Any]:
    return {
        "name": "coredns",
        "image": LOCAL,
        "command": [f"{PROGRAMS}/coredns", "-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "30Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
