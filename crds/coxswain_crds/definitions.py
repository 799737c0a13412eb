"""The CustomResourceDefinitions: what Coxswain adds to the API of a cluster."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from coxswain_crds import names
from coxswain_crds.accelerator_class import AcceleratorClass
from coxswain_crds.llm_service import LLMService
from coxswain_crds.llm_service_status import LLMServiceStatus
from coxswain_crds.structural import Schema, structural

MAX_BYTES = 50_000
"""Size to stay under: `kubectl apply` keeps a copy in an annotation of at most 262,144 bytes, and people read it."""


def llm_services() -> Schema:
    """The CustomResourceDefinition of LLMService."""
    schema = _root(LLMService, status=structural(LLMServiceStatus))
    definition = _definition(names.LLM_SERVICE, names.LLM_SERVICES, ["llms"], "Namespaced", schema)
    version = definition["spec"]["versions"][0]
    version["additionalPrinterColumns"] = [
        _column("URL", "string", ".status.url"),
        _column("READY", "string", '.status.conditions[?(@.type=="Ready")].status'),
        _column("REASON", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        _column("REPLICAS", "integer", ".status.readyReplicas"),
        _column("TTFT-P95", "string", ".status.measured.ttftP95"),
        _column("SLO%", "integer", ".status.measured.attainmentPercent"),
        _column("AGE", "date", ".metadata.creationTimestamp"),
        _column("WANTED", "integer", ".spec.scaling.replicas", wide=True),
        _column("ENGINE", "string", ".spec.engine.type", wide=True),
        _column("REVISION", "string", ".status.revision", wide=True),
        _column("LASTDECISION", "string", ".status.lastDecision", wide=True),
    ]
    version["subresources"] = {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.scaling.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    return definition


def accelerator_classes() -> Schema:
    """The CustomResourceDefinition of AcceleratorClass."""
    schema = _root(AcceleratorClass)
    definition = _definition(names.ACCELERATOR_CLASS, names.ACCELERATOR_CLASSES, [], "Cluster", schema)
    definition["spec"]["versions"][0]["additionalPrinterColumns"] = [
        _column("RESOURCE", "string", ".spec.resourceName"),
        _column("AGE", "date", ".metadata.creationTimestamp"),
    ]
    return definition


def _definition(kind: str, plural: str, short: list[str], scope: str, schema: Schema) -> Schema:
    spelled = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    version = {"name": names.VERSION, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{names.GROUP}",
            # Helm deletes what a release made. A CRD takes every object of its kind with it, so it is kept.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": names.GROUP,
            "names": spelled | {"categories": ["coxswain"]} | ({"shortNames": short} if short else {}),
            "scope": scope,
            "versions": [version],
        },
    }


def _root(resource: type[BaseModel], status: Schema | None = None) -> Schema:
    """The schema of a whole object. The API server adds apiVersion, kind and metadata by itself."""
    whole = structural(resource)
    fields = {"spec": whole["properties"]["spec"]} | ({"status": status} if status else {})
    root = {"description": whole["description"], "type": "object", "properties": fields, "required": ["spec"]}
    rules = whole["properties"]["metadata"]["properties"]["name"].get("x-kubernetes-validations", [])
    return root | ({"x-kubernetes-validations": [_about_name(rule) for rule in rules]} if rules else {})


def _about_name(rule: dict[str, str]) -> dict[str, str]:
    """A rule about `metadata.name` as a rule of the root: a schema may not say more about metadata itself."""
    message = f"metadata.name {rule['message']}"
    return {"rule": re.sub(r"\bself\b", "self.metadata.name", rule["rule"]), "message": message}


def _column(name: str, kind: str, path: str, *, wide: bool = False) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": 1} if wide else {})
