"""From pydantic's JSON schema to the structural schema that a CustomResourceDefinition wants.

A structural schema has no `$ref`, no `anyOf: null`, no `const`, one `type` per value, and drops (or, here, refuses)
unknown fields by itself: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_COPIED = (
    "type", "format", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)  # fmt: skip


class UnsupportedSchemaError(TypeError):
    """A model uses something that a structural schema cannot say."""


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, fields by the names they have in manifests. Raises UnsupportedSchemaError."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}))


def _convert(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    schema = _inlined(_without_null(schema), definitions)
    if _is_int_or_string(schema):
        return _described(schema) | {"x-kubernetes-int-or-string": True}
    if "anyOf" in schema or not {"type", "const"} & schema.keys():
        raise UnsupportedSchemaError(f"a value must have one type (or be int | str): {schema}")
    result = _described(schema) | {key: schema[key] for key in _COPIED if key in schema}
    result |= _constant(schema) | _default(schema)
    if result["type"] == "array":
        result["items"] = _convert(schema["items"], definitions)
    if result["type"] == "object":
        result |= _members(schema, definitions)
    return result


def _inlined(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The definition behind `$ref`, under what is said beside the reference."""
    if "$ref" not in schema:
        return schema
    definition = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return definition | {key: value for key, value in schema.items() if key != "$ref"}


def _without_null(schema: Schema) -> Schema:
    """`X | None` is X: an API server prunes nulls before it validates, so absence is the only null there is."""
    choices = schema.get("anyOf", [])
    rest = [choice for choice in choices if choice.get("type") != "null"]
    if len(rest) == len(choices):
        return schema
    outer = {key: value for key, value in schema.items() if key != "anyOf"}
    return outer | (rest[0] if len(rest) == 1 else {"anyOf": rest}) | _described(schema)


def _is_int_or_string(schema: Schema) -> bool:
    return sorted(str(choice.get("type")) for choice in schema.get("anyOf", [])) == ["integer", "string"]


def _described(schema: Schema) -> Schema:
    text = " ".join(schema.get("description", "").split())
    return {"description": text} if text else {}


def _constant(schema: Schema) -> Schema:
    return {"type": "string", "enum": [schema["const"]]} if "const" in schema else {}


def _default(schema: Schema) -> Schema:
    """A default object is written `{}`: the API server fills it in from the defaults of its fields."""
    default = schema.get("default")
    if default is None:
        return {}
    return {"default": {} if isinstance(default, dict) else default}


def _members(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    if "properties" in schema:
        return {"properties": {name: _convert(field, definitions) for name, field in schema["properties"].items()}}
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        return {"additionalProperties": _convert(values, definitions)}
    return {"x-kubernetes-preserve-unknown-fields": True}
