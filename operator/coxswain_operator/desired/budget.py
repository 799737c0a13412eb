"""The PodDisruptionBudget: a drain takes one replica at a time, and waits for its replacement."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names
from coxswain_operator.desired.ownership import Owner

Object = dict[str, Any]


def budget(owner: Owner) -> Object:
    """Over exactly the replica Pods: all but one must stay.

    `maxUnavailable: 1` would say the same, but has Kubernetes look up the scale subresource of a kind that its
    controllers do not know for up to 30 s after the CRD is installed, and then try again only when a Pod changes.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(names.budget(owner.name), names.REPLICA),
        "spec": {
            "minAvailable": max(0, owner.spec.scaling.replicas - 1),
            "selector": {"matchLabels": names.component_selector(owner.name, names.REPLICA)},
            # A replica that is not ready serves nobody: it may always be evicted.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
