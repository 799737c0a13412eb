"""Metadata of everything that belongs to a service: found by its labels, gone when the service is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coxswain_crds import names
from coxswain_crds.llm_service import LLMServiceSpec

Object = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """An accepted LLMService."""

    namespace: str
    name: str
    uid: str
    spec: LLMServiceSpec

    def reference(self) -> Object:
        """The owner reference. It blocks no deletion: nothing of ours waits for anything."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.LLM_SERVICE,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }

    def metadata(self, name: str, component: str) -> Object:
        """Metadata of one object of the service."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": names.common_labels(self.name, component),
            "ownerReferences": [self.reference()],
        }

    def gateways_host(self) -> str:
        """The DNS name that resolves to every gateway, ready or not."""
        return f"{names.gateway_service(self.name)}.{self.namespace}.svc"
