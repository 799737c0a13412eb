"""What the watches brought, by service: the operator's whole picture of the cluster.

Events of one kind come in order, but answers to our own writes are put in as well and may be newer than the event that
comes next, so an older state of an object never overwrites a newer one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from coxswain_crds import names
from coxswain_operator.cluster import records
from coxswain_operator.cluster.kinds import CHILDREN, CLASSES, NODES, PODS, SERVICES, Kind
from coxswain_operator.cluster.records import ChildRecord, ClassRecord, NodeRecord, PodRecord, ServiceRecord

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name of an LLMService."""


class Cache:
    """Records by service. `put` and `drop` answer with the services that must be looked at again."""

    def __init__(self) -> None:
        self.services: dict[Key, ServiceRecord] = {}
        self.classes: dict[str, ClassRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.nodes_state = 0
        """Goes up with every change of a node's readiness."""
        self.classes_state = 0
        """Goes up with every change of an AcceleratorClass."""
        self._pods: defaultdict[Key, dict[str, PodRecord]] = defaultdict(dict)
        self._children: defaultdict[Key, dict[tuple[str, str], ChildRecord]] = defaultdict(dict)

    def pods(self, key: Key) -> Collection[PodRecord]:
        """All Pods of a service: gateways, coordinator and replicas."""
        return self._pods[key].values() if key in self._pods else ()

    def child(self, key: Key, kind: str, name: str) -> ChildRecord | None:
        """One object of a service."""
        return self._children[key].get((kind, name)) if key in self._children else None

    def put(self, kind: Kind, raw: Object) -> Collection[Key]:
        """An object as it is now."""
        return self._store(kind, raw, gone=False)

    def drop(self, kind: Kind, raw: Object) -> Collection[Key]:
        """An object that is gone; its last state, as the watch reports it."""
        return self._store(kind, raw, gone=True)

    def forget_pod(self, pod: PodRecord) -> None:
        """A Pod that the API server says is gone."""
        _replace(self._pods, (pod.namespace, pod.service), pod.name, pod, gone=True)

    def has(self, kind: Kind, raw: Object) -> bool:
        """Whether an object of this name is in here."""
        return self._name(raw["metadata"]) in self._held(kind)

    def prune(self, kind: Kind, *, present: Collection[Key], version: int) -> set[Key]:
        """Forget what a complete list of that version does not have: deletions that no watch told us about."""
        keys: set[Key] = set()
        for name, record in self._held(kind).items():
            if name not in present and record.version <= version:
                metadata = {"namespace": name[0], "name": name[1], "resourceVersion": str(record.version)}
                labels = {names.LABEL_SERVICE: getattr(record, "service", "")}
                keys.update(self.drop(kind, {"kind": kind.kind, "metadata": metadata | {"labels": labels}}))
        return keys

    def _store(self, kind: Kind, raw: Object, *, gone: bool) -> Collection[Key]:
        if kind is PODS:
            return self._store_pod(records.pod(raw), gone=gone)
        if kind is SERVICES:
            return self._store_service(records.service(raw), gone=gone)
        if kind is NODES:
            return self._store_node(records.node(raw), gone=gone)
        if kind is CLASSES:
            return self._store_class(records.accelerator_class(raw), gone=gone)
        return self._store_child(records.child({"kind": kind.kind} | raw), gone=gone)

    def _store_service(self, record: ServiceRecord, *, gone: bool) -> Collection[Key]:
        key = (record.namespace, record.name)
        held = self.services.get(key)
        if held is not None and held.version > record.version:
            return ()
        if gone:
            self.services.pop(key, None)
        else:
            self.services[key] = record
        return (key,)

    def _store_pod(self, record: PodRecord, *, gone: bool) -> Collection[Key]:
        key = (record.namespace, record.service)
        return (key,) if _replace(self._pods, key, record.name, record, gone=gone) else ()

    def _store_child(self, record: ChildRecord, *, gone: bool) -> Collection[Key]:
        key = (record.namespace, record.service)
        return (key,) if _replace(self._children, key, (record.kind, record.name), record, gone=gone) else ()

    def _store_node(self, record: NodeRecord, *, gone: bool) -> Collection[Key]:
        """A node matters when it comes, goes, or changes between ready and not: then to whoever has a Pod anywhere.

        Anywhere, because whether all nodes are down is part of the judgement about each.
        """
        held = self.nodes.get(record.name)
        if held is not None and held.version > record.version:
            return ()
        if gone:
            self.nodes.pop(record.name, None)
        else:
            self.nodes[record.name] = record
        changed = held is None or gone or held.ready != record.ready
        if not changed:
            return ()
        self.nodes_state += 1
        return [key for key, pods in self._pods.items() if pods]

    def _store_class(self, record: ClassRecord, *, gone: bool) -> Collection[Key]:
        if gone:
            self.classes.pop(record.name, None)
        else:
            self.classes[record.name] = record
        self.classes_state += 1
        return [key for key, service in self.services.items() if record.name in _classes(service.spec)]

    def _held(self, kind: Kind) -> dict[Key, Any]:
        if kind is SERVICES:
            return dict(self.services)
        if kind is NODES:
            return {("", name): record for name, record in self.nodes.items()}
        if kind is CLASSES:
            return {("", name): record for name, record in self.classes.items()}
        if kind is PODS:
            return {(pod.namespace, pod.name): pod for pods in self._pods.values() for pod in pods.values()}
        children = (child for held in self._children.values() for child in held.values())
        return {(child.namespace, child.name): child for child in children if CHILDREN[child.kind] is kind}

    @staticmethod
    def _name(metadata: Object) -> Key:
        return metadata.get("namespace") or "", metadata["name"]


def _replace(held: defaultdict[Key, dict[Any, Any]], key: Key, name: Any, record: Any, *, gone: bool) -> bool:
    """Put or remove one record; False when what is held is newer or the same."""
    before = held[key].get(name) if key in held else None
    if before is not None and (before.version > record.version or (before == record and not gone)):
        return False
    if not gone:
        held[key][name] = record
    elif before is not None:
        del held[key][name]
        if not held[key]:
            del held[key]
    return True


def _classes(spec: Object) -> set[str]:
    """Names of the AcceleratorClasses in a spec that nobody has validated."""
    found: set[str] = set()
    for role in _dicts(spec.get("roles")):
        found.update(str(choice.get("class")) for choice in _dicts(role.get("accelerators")))
    return found


def _dicts(value: object) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
