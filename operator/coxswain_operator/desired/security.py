"""The Pod Security Standard "restricted", which every Pod of ours keeps to."""

from __future__ import annotations

from typing import Any, Final

Object = dict[str, Any]

UID: Final = 65532
"""The user `nonroot` of distroless images."""


def pod_security() -> Object:
    """`spec.securityContext` of a Pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """`securityContext` of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def scratch() -> tuple[Object, Object]:
    """Volume and mount of /tmp, the only place to write when the root file system is read-only."""
    return {"name": "tmp", "emptyDir": {}}, {"name": "tmp", "mountPath": "/tmp"}
