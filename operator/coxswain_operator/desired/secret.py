"""The Secret of a service: made once and then left alone, because everything that runs holds what was in it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from coxswain_crds import names
from coxswain_operator.desired.ownership import Owner

Object = dict[str, Any]


def random_token() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def secret(owner: Owner, *, known: Mapping[str, str], token: Callable[[], str] = random_token) -> Object:
    """`known` are entries to keep (base64): of a Secret that lacks one, or that somebody deleted while Pods use it."""
    entries = {
        key: known.get(key) or base64.b64encode(token().encode()).decode()
        for key in (names.SECRET_TOKEN, names.SECRET_RAY_TOKEN)
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": owner.metadata(names.token_secret(owner.name), names.GATEWAY),
        "type": "Opaque",
        "data": entries,
    }


def is_complete(entries: Mapping[str, str]) -> bool:
    """Whether nothing is missing."""
    return all(entries.get(key) for key in (names.SECRET_TOKEN, names.SECRET_RAY_TOKEN))
