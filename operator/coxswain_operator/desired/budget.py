"""The PodDisruptionBudget: a drain takes one replica at a time, and waits for its replacement."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names
from coxswain_operator.desired.ownership import Owner

Object = dict[str, Any]


def budget(owner: Owner) -> Object:
    """Over exactly the replica Pods, which are what the scale subresource counts: `maxUnavailable` needs that."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(names.budget(owner.name), names.REPLICA),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.component_selector(owner.name, names.REPLICA)},
            # A replica that is not ready serves nobody: it may always be evicted.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
