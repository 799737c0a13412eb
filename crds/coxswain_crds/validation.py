"""Everything that is wrong with an object, at once: what the webhook answers and what `Accepted=False` says.

The models give the verdict that the API server gives too. On top come checks that need more than the object:
the chart's settings, the accelerator classes of the cluster, and what the engine was measured to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from coxswain_crds import durations
from coxswain_crds.accelerator_class import AcceleratorClass
from coxswain_crds.llm_service import AcceleratorChoice, LLMService, ModelSource, Objective
from coxswain_crds.reasons import Accepted

Part = TypeVar("Part", bound=BaseModel)

_FILE = "file://"


@dataclass(frozen=True)
class FieldError:
    """One wrong field. `path` is as `kubectl explain` writes it, list items by index: `spec.roles[0].name`."""

    path: str
    message: str
    reason: Accepted = Accepted.INVALID_SPEC

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def errors(
    manifest: dict[str, Any],
    *,
    allowed_file_prefixes: Sequence[str] = (),
    accelerator_classes: Collection[str] | None = None,
    step_floor_seconds: float | None = None,
) -> list[FieldError]:
    """Every error of an LLMService, in the order of its fields; empty when it is accepted.

    `allowed_file_prefixes` are the directories that file:// models may come from. `accelerator_classes` are the names
    that exist, `step_floor_seconds` is the fastest measured engine step of this service; what is None is not checked.
    A part that is malformed is reported as that, and its further checks are left out.
    """
    found = schema_errors(LLMService, manifest)
    found += _file_errors(manifest, allowed_file_prefixes)
    if accelerator_classes is not None:
        found += _class_errors(manifest, accelerator_classes)
    if step_floor_seconds is not None:
        found += _objective_errors(manifest, step_floor_seconds)
    return found


def accelerator_class_errors(manifest: dict[str, Any]) -> list[FieldError]:
    """Every error of an AcceleratorClass; empty when it is accepted."""
    return schema_errors(AcceleratorClass, manifest)


def schema_errors(model: type[BaseModel], manifest: object) -> list[FieldError]:
    """What the schema of `model` refuses about `manifest`."""
    try:
        model.model_validate(manifest)
    except ValidationError as error:
        return [_field_error(model, detail) for detail in error.errors(include_url=False)]
    return []


def _field_error(model: type[BaseModel], detail: ErrorDetails) -> FieldError:
    return FieldError(_path(detail["loc"]), _message(model, detail))


def _path(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


def _message(model: type[BaseModel], detail: ErrorDetails) -> str:
    """One sentence that says what to write instead."""
    context, value = detail.get("ctx", {}), detail["input"]
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return f"unknown field{_suggestion(model, detail['loc'])}"
        case "literal_error":
            return f"must be {context['expected'].replace(chr(39), '')}, not {_shown(value)}"
        case "int_type" | "string_type" | "list_type" | "dict_type" | "model_type" | "int_from_float":
            wanted = {"int": "an integer", "string": "a string", "list": "a list"}
            return f"must be {wanted.get(detail['type'].split('_')[0], 'an object')}, not {_shown(value)}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {_shown(value)}"
        case "less_than_equal":
            return f"must be at most {context['le']}, not {_shown(value)}"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters, not {len(value)}"
        case "too_long":
            return f"must have at most {context['max_length']} items, not {len(value)}"
        case "rule":
            return detail["msg"] if isinstance(value, list) else f"{detail['msg']}, not {_shown(value)}"
        case _:
            return detail["msg"]


def _shown(value: object) -> str:
    """The value as it would be written in JSON, short."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return f'"{value}"' if len(value) <= 80 else f'"{value[:77]}…"'
        case _:
            return str(value)


def _suggestion(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    known = _known_fields(model.model_json_schema(), location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(known)}" if known else ""


def _known_fields(schema: dict[str, Any], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the object at `location`."""
    place = schema
    for part in location:
        place = place["items"] if isinstance(part, int) else place["properties"][part]
        for choice in place.get("anyOf", []):
            place = choice if choice.get("type") != "null" else place
        if "$ref" in place:
            place = schema["$defs"][place["$ref"].removeprefix("#/$defs/")]
    return list(place.get("properties", {}))


def _file_errors(manifest: object, allowed: Sequence[str]) -> list[FieldError]:
    source = _part(ModelSource, _at(manifest, "spec", "model"))
    if source is None or not source.uri.startswith(_FILE) or _is_under(source.uri.removeprefix(_FILE), allowed):
        return []
    rule = f"allowed are {', '.join(allowed)}" if allowed else "none is allowed"
    message = f"file:// paths must lie under the chart's modelSources.allowedFilePrefixes ({rule}), not {source.uri}"
    return [FieldError("spec.model.uri", message, Accepted.MODEL_SOURCE_NOT_ALLOWED)]


def _is_under(path: str, prefixes: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(PurePosixPath(prefix)) for prefix in prefixes)


def _class_errors(manifest: object, existing: Collection[str]) -> list[FieldError]:
    found = []
    roles = _at(manifest, "spec", "roles")
    for i, role in enumerate(roles if isinstance(roles, list) else []):
        choices = _at(role, "accelerators")
        for j, choice in enumerate(choices if isinstance(choices, list) else []):
            accelerator = _part(AcceleratorChoice, choice)
            if accelerator is not None and accelerator.class_ not in existing:
                path = f"spec.roles[{i}].accelerators[{j}].class"
                message = f"there is no AcceleratorClass {accelerator.class_}; {_listed(existing)}"
                found.append(FieldError(path, message, Accepted.ACCELERATOR_CLASS_NOT_FOUND))
    return found


def _listed(existing: Collection[str]) -> str:
    return f"there are {', '.join(sorted(existing))}" if existing else "there is none at all"


def _objective_errors(manifest: object, floor_seconds: float) -> list[FieldError]:
    found = []
    for name in ("ttft", "interToken"):
        objective = _part(Objective, _at(manifest, "spec", "objectives", name))
        if objective is not None and durations.seconds(objective.target) < floor_seconds:
            nearest = durations.milliseconds(floor_seconds)
            message = (
                f"{objective.target} is below one measured step of the engine; the nearest that can be met is {nearest}"
            )
            found.append(FieldError(f"spec.objectives.{name}.target", message, Accepted.OBJECTIVE_IMPOSSIBLE))
    return found


def _at(manifest: object, *path: str) -> object:
    for name in path:
        manifest = manifest.get(name) if isinstance(manifest, dict) else None
    return manifest


def _part(model: type[Part], value: object) -> Part | None:
    """The value as a model; None when it is absent or malformed, which the schema's own errors say."""
    try:
        return None if value is None else model.model_validate(value)
    except ValidationError:
        return None
