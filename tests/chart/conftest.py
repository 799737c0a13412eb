"""The chart, rendered by helm, and installed on a Kubernetes API of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.binaries import binaries
from e2e.cluster.control_plane import ControlPlane

CHART = Path(__file__).parents[2] / "helm" / "coxswain"
NAMESPACE = "coxswain-system"

Object = dict[str, Any]
Render = Callable[..., list[Object]]


class HelmError(Exception):
    """What helm said when it refused."""


@pytest.fixture(scope="session")
def render() -> Render:
    """`helm template` with `--set` arguments → the objects. Raises HelmError."""
    helm = str(binaries() / "helm")

    def run(*settings: str) -> list[Object]:
        where = ["--namespace", NAMESPACE, "--kube-version", "1.34"]
        command = [helm, "template", "coxswain", str(CHART), *where, *(f"--set={setting}" for setting in settings)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise HelmError(done.stderr)
        return [item for item in yaml.safe_load_all(done.stdout) if item]

    return run


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """Not the shared one: a chart owns the resource definitions that it installs."""
    with ControlPlane() as plane:
        yield plane


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of a kind (and name)."""
    (found,) = [item for item in objects if item["kind"] == kind and name in (None, item["metadata"]["name"])]
    return found
