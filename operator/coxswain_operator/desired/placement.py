"""Where Pods should and should not run."""

from __future__ import annotations

from typing import Any, Final

Object = dict[str, Any]

HOSTNAME: Final = "kubernetes.io/hostname"
DEAD_NODE_SECONDS: Final = 10
"""How long gateways and coordinator stay bound to a node that is gone, instead of Kubernetes' 300 s."""

_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def leave_dead_nodes() -> list[Object]:
    """Tolerations of what a Deployment replaces: off a dead node quickly."""
    return [_toleration(taint) | {"tolerationSeconds": DEAD_NODE_SECONDS} for taint in _TAINTS]


def stay_until_told() -> list[Object]:
    """Tolerations of replicas: their loss is judged by heartbeat, not by the condition of their node."""
    return [_toleration(taint) for taint in _TAINTS]


def spread(selector: dict[str, str], *, per_revision: bool = False) -> list[Object]:
    """Over nodes as evenly as goes; never a reason not to run."""
    constraint: Object = {
        "maxSkew": 1,
        "topologyKey": HOSTNAME,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }
    return [constraint | ({"matchLabelKeys": ["pod-template-hash"]} if per_revision else {})]


def apart_from(selector: dict[str, str]) -> Object:
    """Rather not on a node where Pods of the selector run."""
    term = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": selector}}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _toleration(taint: str) -> Object:
    return {"key": taint, "operator": "Exists", "effect": "NoExecute"}
