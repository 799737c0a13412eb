"""Laying a user's patch over a PodSpec, in the manner of a strategic merge patch.

Objects are merged key by key, `null` removes, lists whose items have a key are merged by it, any other value replaces.
"""

from __future__ import annotations

from typing import Any, Final

Object = dict[str, Any]

MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""By the name of the field, as PodSpec declares its patch merge keys."""
APPENDED: Final = frozenset({"tolerations"})
"""Lists without a key, of which the patch's items are added to ours."""


def overlay(base: Object, patch: Object) -> Object:
    """A new object; neither argument is changed."""
    result = dict(base)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(name, result.get(name), value)
    return result


def _merged(name: str, base: Any, value: Any) -> Any:
    if isinstance(value, dict) and isinstance(base, dict):
        return overlay(base, value)
    if isinstance(value, list) and isinstance(base, list):
        if name in APPENDED:
            return base + [item for item in value if item not in base]
        if name in MERGE_KEYS and _keyed(value, MERGE_KEYS[name]):
            return _merged_list(base, value, MERGE_KEYS[name])
    return value


def _keyed(items: list[Any], key: str) -> bool:
    return all(isinstance(item, dict) and key in item for item in items)


def _merged_list(base: list[Object], patch: list[Object], key: str) -> list[Object]:
    """Ours in our order, each with its patch, then what only the patch has."""
    patches = {item[key]: item for item in patch}
    kept = [_item(item, patches.pop(item.get(key), {})) for item in base]
    added = [item for item in patches.values() if item.get("$patch") != "delete"]
    return [item for item in kept if item is not None] + added


def _item(base: Object, patch: Object) -> Object | None:
    return None if patch.get("$patch") == "delete" else overlay(base, patch)
