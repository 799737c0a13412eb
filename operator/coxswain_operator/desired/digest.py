"""Digests of manifests: two that differ in nothing but the order of their keys have the same one."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from coxswain_crds import names

Object = dict[str, Any]

_encoder = msgspec.json.Encoder(order="deterministic")


def digest(value: object) -> str:
    """16 hexadecimal digits of what JSON can hold."""
    return hashlib.sha256(_encoder.encode(value)).hexdigest()[:16]


def stamped(body: Object) -> Object:
    """The manifest with its own digest as annotation, by which it is known to be unchanged without comparing it."""
    metadata = body["metadata"]
    annotations = metadata.get("annotations", {}) | {names.ANNOTATION_SPEC_HASH: digest(body)}
    return body | {"metadata": metadata | {"annotations": annotations}}


def digest_of(body: Object) -> str:
    """The digest that `stamped` wrote."""
    value: str = body["metadata"]["annotations"][names.ANNOTATION_SPEC_HASH]
    return value
