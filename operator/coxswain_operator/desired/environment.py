"""Environment variables and probes that the containers of a service share."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names

Object = dict[str, Any]


def pod_name() -> Object:
    """`$(POD_NAME)` in arguments: one manifest serves every Pod."""
    return {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def home() -> Object:
    """Libraries that keep caches in the home directory find one that can be written."""
    return {"name": "HOME", "value": "/tmp"}


def secret(variable: str, *, service: str, key: str) -> Object:
    """A variable from the service's Secret."""
    reference = {"name": names.token_secret(service), "key": key}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def token(service: str) -> Object:
    """The secret that the parts of one service share."""
    return secret(names.ENV_TOKEN, service=service, key=names.SECRET_TOKEN)


def port(name: str, number: int) -> Object:
    """A named container port."""
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def probe(path: str, number: int, *, period: int, failures: int) -> Object:
    """An HTTP probe: `failures` in a row, `period` seconds apart, count."""
    return {
        "httpGet": {"path": path, "port": number},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
