"""What the operator keeps of each object it watches: the few fields that decisions need, not the object.

A thousand services come with fifteen thousand objects, and whole objects are ten times the size of these.
"""

from __future__ import annotations

from typing import Any

import msgspec

from coxswain_crds import names
from coxswain_operator.cluster.failures import Failure, failure_of
from coxswain_operator.cluster.timestamps import parse

Object = dict[str, Any]


class NodeRecord(msgspec.Struct, frozen=True):
    """A node, and whether the control plane hears from its kubelet."""

    name: str
    ready: bool
    version: int


class PodRecord(msgspec.Struct, frozen=True):
    """A Pod of a service: of a gateway, a coordinator or a replica."""

    namespace: str
    name: str
    uid: str
    version: int
    service: str
    component: str
    owner: str
    slot: int
    incarnation: int
    digest: str
    """Of what it was made from: the annotation `coxswain.dev/spec-hash`."""
    phase: str
    leaving: bool
    ready: bool
    node: str
    address: str
    created: float
    """Seconds since the epoch."""
    waiting: str = ""
    """Why its container does not run, as the kubelet says it; empty when it runs."""
    failure: Failure | None = None


class ChildRecord(msgspec.Struct, frozen=True):
    """A Secret, Service, Deployment or PodDisruptionBudget of a service."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    state: int
    """What changes when its spec changes: the generation, or where there is none, the resource version."""
    service: str
    owner: str
    digest: str
    touched: bool
    """Somebody else wrote to its spec after we did."""
    ready: int = 0
    """Of a Deployment: Pods that are ready."""
    secret: tuple[tuple[str, str], ...] = ()
    """Of a Secret: its entries, base64 as they came."""


class ClassRecord(msgspec.Struct, frozen=True):
    """An AcceleratorClass."""

    name: str
    version: int
    resource: str
    node_selector: tuple[tuple[str, str], ...]


class ServiceRecord(msgspec.Struct, frozen=True):
    """An LLMService as it was last seen; spec and status are not validated."""

    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    leaving: bool
    spec: Object
    status: Object
    status_owners: tuple[str, ...]
    """Field managers of the status: to notice when somebody else wrote to it."""


def node(raw: Object) -> NodeRecord:
    """Keep what matters of a Node."""
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in _conditions(raw))
    return NodeRecord(name=raw["metadata"]["name"], ready=ready, version=version(raw))


def pod(raw: Object) -> PodRecord:
    """Keep what matters of a Pod."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    labels = metadata.get("labels") or {}
    return PodRecord(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=version(raw),
        service=labels.get(names.LABEL_SERVICE, ""),
        component=labels.get(names.LABEL_COMPONENT, ""),
        owner=_owner(metadata),
        slot=_integer(labels.get(names.LABEL_SLOT)),
        incarnation=_integer(labels.get(names.LABEL_INCARNATION)),
        digest=(metadata.get("annotations") or {}).get(names.ANNOTATION_SPEC_HASH, ""),
        phase=status.get("phase", "Pending"),
        leaving="deletionTimestamp" in metadata,
        ready=any(c.get("type") == "Ready" and c.get("status") == "True" for c in _conditions(raw)),
        node=spec.get("nodeName", ""),
        address=status.get("podIP", ""),
        created=parse(metadata.get("creationTimestamp", "")),
        waiting=_waiting(status),
        failure=failure_of(status),
    )


def child(raw: Object) -> ChildRecord:
    """Keep what matters of an object that we applied."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    return ChildRecord(
        kind=raw["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=version(raw),
        state=metadata.get("generation") or version(raw),
        service=(metadata.get("labels") or {}).get(names.LABEL_SERVICE, ""),
        owner=_owner(metadata),
        digest=(metadata.get("annotations") or {}).get(names.ANNOTATION_SPEC_HASH, ""),
        touched=_touched(metadata),
        ready=status.get("readyReplicas", 0) if raw["kind"] == "Deployment" else 0,
        secret=tuple(sorted((raw.get("data") or {}).items())) if raw["kind"] == "Secret" else (),
    )


def accelerator_class(raw: Object) -> ClassRecord:
    """Keep what matters of an AcceleratorClass."""
    spec = raw.get("spec") or {}
    selector = spec.get("nodeSelector") or {}
    return ClassRecord(
        name=raw["metadata"]["name"],
        version=version(raw),
        resource=str(spec.get("resourceName", "")),
        node_selector=tuple(sorted((str(key), str(value)) for key, value in selector.items())),
    )


def service(raw: Object) -> ServiceRecord:
    """Keep what matters of an LLMService."""
    metadata = raw["metadata"]
    entries = metadata.get("managedFields") or []
    owners = {e.get("manager", "") for e in entries if e.get("subresource") == "status"}
    return ServiceRecord(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        version=version(raw),
        generation=metadata.get("generation", 0),
        leaving="deletionTimestamp" in metadata,
        spec=raw.get("spec") or {},
        status=raw.get("status") or {},
        status_owners=tuple(sorted(owners)),
    )


def version(raw: Object) -> int:
    """The resource version, which orders the states of one object (KEP-5504). Zero when there is none."""
    return _integer(raw["metadata"].get("resourceVersion"), default=0)


def _integer(text: str | None, default: int = -1) -> int:
    return int(text) if text is not None and text.isdecimal() else default


def _conditions(raw: Object) -> list[Object]:
    return (raw.get("status") or {}).get("conditions") or []


def _owner(metadata: Object) -> str:
    controllers = (o["uid"] for o in metadata.get("ownerReferences") or [] if o.get("controller"))
    return next(controllers, "")


def _waiting(status: Object) -> str:
    containers = status.get("containerStatuses") or []
    reasons = ((c.get("state") or {}).get("waiting", {}).get("reason", "") for c in containers)
    return next((reason for reason in reasons if reason), "")


def _touched(metadata: Object) -> bool:
    """Whether the newest write to anything but the status was another manager's."""
    newest: dict[bool, str] = {True: "", False: ""}
    for entry in metadata.get("managedFields") or []:
        if not entry.get("subresource"):
            ours = entry.get("manager") == names.FIELD_MANAGER
            newest[ours] = max(newest[ours], entry.get("time", ""))
    return newest[False] > newest[True]
