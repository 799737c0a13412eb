"""The resources that the operator reads or writes, and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coxswain_crds import names


@dataclass(frozen=True)
class Kind:
    """One resource: `path()` is its URL on the API server."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    selected: bool = False
    """Watched only where labelled as ours, by the server."""

    @property
    def api_version(self) -> str:
        """As it stands in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, of one object, or of its subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(parts)


SERVICES: Final = Kind(names.LLM_SERVICE, names.LLM_SERVICES, names.GROUP, names.VERSION)
CLASSES: Final = Kind(names.ACCELERATOR_CLASS, names.ACCELERATOR_CLASSES, names.GROUP, names.VERSION, namespaced=False)
NODES: Final = Kind("Node", "nodes", namespaced=False)
PODS: Final = Kind("Pod", "pods", selected=True)
SECRETS: Final = Kind("Secret", "secrets", selected=True)
K8S_SERVICES: Final = Kind("Service", "services", selected=True)
DEPLOYMENTS: Final = Kind("Deployment", "deployments", "apps", selected=True)
BUDGETS: Final = Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy", selected=True)
LEASES: Final = Kind("Lease", "leases", "coordination.k8s.io")
EVENTS: Final = Kind("Event", "events", "events.k8s.io")

WATCHED: Final = (NODES, CLASSES, SECRETS, K8S_SERVICES, DEPLOYMENTS, BUDGETS, PODS, SERVICES)
"""In the order in which they are listed: services last, so that what belongs to one is known before it is."""
CHILDREN: Final = {kind.kind: kind for kind in (SECRETS, K8S_SERVICES, DEPLOYMENTS, BUDGETS)}
SELECTOR: Final = f"{names.LABEL_MANAGED_BY}={names.APP}"
