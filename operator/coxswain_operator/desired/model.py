"""Where a replica finds its model: `spec.model.uri` as a volume and a path in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from coxswain_crds.llm_service import ModelSource

Object = dict[str, Any]

MOUNT: Final = "/models"
CACHE: Final = "/cache"


@dataclass(frozen=True)
class MountedModel:
    """What to pass to the replica as `--model`, and what it takes for that to exist."""

    argument: str
    volume: Object
    mount: Object
    env: tuple[Object, ...] = ()


def mounted(model: ModelSource, *, allowed_file_prefixes: Sequence[str]) -> MountedModel:
    """The model of a spec that was accepted. Raises ValueError for a path that is not allowed."""
    scheme, _, rest = model.uri.partition("://")
    if scheme == "hf":
        return _downloaded(rest, model.revision)
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        return _claimed(claim, path)
    return _on_the_node(PurePosixPath(rest), allowed_file_prefixes)


def _downloaded(repository: str, revision: str | None) -> MountedModel:
    reference = f"{repository}@{revision}" if revision else repository
    return MountedModel(
        argument=f"hf://{reference}",
        volume={"name": "model", "emptyDir": {}},
        mount={"name": "model", "mountPath": CACHE},
        env=({"name": "HF_HOME", "value": f"{CACHE}/huggingface"},),
    )


def _claimed(claim: str, path: str) -> MountedModel:
    return MountedModel(
        argument=str(PurePosixPath(MOUNT) / path),
        volume={"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
        mount={"name": "model", "mountPath": MOUNT, "readOnly": True},
    )


def _on_the_node(path: PurePosixPath, allowed: Sequence[str]) -> MountedModel:
    """The allowed directory is mounted, not the model in it: the replica can then say itself that it is missing."""
    prefix = next((PurePosixPath(p) for p in allowed if path.is_relative_to(PurePosixPath(p))), None)
    if prefix is None:
        raise ValueError(f"{path} is under none of the allowed directories")
    return MountedModel(
        argument=str(PurePosixPath(MOUNT) / path.relative_to(prefix)),
        volume={"name": "model", "hostPath": {"path": str(prefix), "type": "Directory"}},
        mount={"name": "model", "mountPath": MOUNT, "readOnly": True},
    )
