"""The verdict of the webhook: every error on a line of its own, and what is accepted but looks like a mistake.

The API server has checked the schema before it asks, so what is left is what only the operator knows. The whole
validation runs again all the same: it costs nothing and holds when the CRD of an older chart is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coxswain_crds import durations, names
from coxswain_crds.validation import accelerator_class_errors, errors
from coxswain_operator.cluster.cache import Cache
from coxswain_operator.settings import Settings

Object = dict[str, Any]


@dataclass(frozen=True)
class Admission:
    """`message` is empty when the object is admitted."""

    message: str = ""
    warnings: Sequence[str] = field(default_factory=tuple)


def admit(
    manifest: Mapping[str, Any], *, cache: Cache, settings: Settings, step_floor_seconds: float | None
) -> Admission:
    """What to answer about an LLMService or an AcceleratorClass. `step_floor_seconds` is of what runs of it now."""
    raw = {key: value for key, value in manifest.items() if key != "status"}
    if raw.get("kind") == names.ACCELERATOR_CLASS:
        return Admission("\n".join(str(error) for error in accelerator_class_errors(raw)))
    allowed = settings.allowed_file_prefixes
    found = errors(raw, allowed_file_prefixes=allowed, step_floor_seconds=step_floor_seconds)
    if found:
        return Admission("\n".join(str(error) for error in found))
    return Admission(warnings=_warnings(raw["spec"], cache))


def _warnings(spec: Object, cache: Cache) -> list[str]:
    """Of a valid spec."""
    found = [
        f"spec.roles[{i}].accelerators[{j}].class: there is no AcceleratorClass {choice['class']} yet; "
        "no replica is made before there is"
        for i, role in enumerate(spec.get("roles") or [])
        for j, choice in enumerate(role.get("accelerators") or [])
        if choice["class"] not in cache.classes
    ]
    if (spec.get("scaling") or {}).get("replicas") == 0:
        found.append("spec.scaling.replicas: with 0 replicas, requests are answered with 503")
    resilience = spec.get("resilience") or {}
    if resilience.get("replay") == "Disabled":
        found.append("spec.resilience.replay: with Disabled, streams of a lost replica end with an error")
    if resilience.get("onDrain") == "Finish" and durations.seconds(resilience.get("drainTimeout") or "300s") == 0:
        found.append("spec.resilience.drainTimeout: with 0s, onDrain: Finish leaves streams no time to finish")
    model = spec["model"]
    if model["uri"].startswith("hf://") and not model.get("revision"):
        found.append("spec.model.revision: without one, replicas made at different times may load different weights")
    return found
