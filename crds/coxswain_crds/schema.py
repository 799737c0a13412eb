"""What the models are made of: a strict base class, and annotations that pydantic and an API server read alike.

A custom resource is checked twice: by the API server, from the generated schema, and by Coxswain, from the models. Both
must come to the same verdict on every object, so each constraint is written once, here, in a form that yields both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import MaxLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

SUBDOMAIN = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""Names of most objects of Kubernetes (RFC 1123), as a pattern."""


class Model(BaseModel):
    """An object of the API. Fields are snake_case here and camelCase in manifests; unknown ones are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        """An API server prunes `field: null` before it looks at defaults and required fields; so do the models."""
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


def _without_nulls(data: Any) -> Any:
    return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_integral)
"""Takes 5.0 for 5, as an API server does except where `kubectl scale` writes. Goes last, or the bounds are lost."""

StringMap = Annotated[dict[str, Annotated[str, MaxLen(1024)]], MaxLen(64), BeforeValidator(_without_nulls)]
"""Names and values such as labels; a null value is the same as no entry, as for an API server."""


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy, for an API server (`cel`, where `self` is the value) and for pydantic (`holds`)."""

    cel: str
    message: str
    holds: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json = handler(schema)
        json.setdefault("x-kubernetes-validations", []).append({"rule": self.cel, "message": self.message})
        return json

    def _check(self, value: Any) -> Any:
        if not self.holds(value):
            raise PydanticCustomError("rule", "{message}", {"message": self.message})
        return value


def matches(pattern: str, message: str) -> Rule:
    """The whole string matches. `pattern` must mean the same in RE2 and in Python: ASCII classes, no look-around."""
    compiled = re.compile(pattern)
    return Rule(f"self.matches(r'^(?:{pattern})$')", message, lambda text: compiled.fullmatch(text) is not None)


def lacks(pattern: str, message: str) -> Rule:
    """No part of the string matches."""
    compiled = re.compile(pattern)
    return Rule(f"!self.matches(r'{pattern}')", message, lambda text: compiled.search(text) is None)


@dataclass(frozen=True)
class ListMap:
    """The list is a map: items are told apart by `key` (as spelled in manifests); server-side apply merges them."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _check(self, items: Any) -> Any:
        keys = [item.get(self.key) for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        for key in keys:
            if keys.count(key) > 1:
                raise PydanticCustomError("rule", "{message}", {"message": f"more than one item has {self.key} {key}"})
        return items
