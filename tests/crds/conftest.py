"""The API server with Coxswain's resources, and a client that is quick enough to ask it hundreds of questions."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from e2e.cluster.control_plane import ControlPlane

MANIFESTS = Path(__file__).parents[2] / "crds" / "manifests"
NAMESPACE = "crds-tests"


class Client:
    """One kept-alive connection to an API server, as its administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        issued = plane.authority.directory
        context = ssl.create_default_context(cafile=plane.authority.certificate)
        context.load_cert_chain(issued / "admin.crt", issued / "admin.key")
        self._connection = http.client.HTTPSConnection(plane.address, plane.port, context=context, timeout=30)

    def request(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", **params: str
    ) -> tuple[int, dict[str, Any]]:
        """(status, decoded answer)."""
        data = None if body is None else json.dumps(body)
        self._connection.request(method, f"{path}?{urlencode(params)}", data, {"Content-Type": kind})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def try_create(self, manifest: dict[str, Any], namespace: str = NAMESPACE) -> tuple[int, dict[str, Any]]:
        """Ask for an LLMService to be created, strictly, without creating it."""
        path = f"/apis/coxswain.dev/v1alpha1/namespaces/{namespace}/llmservices"
        return self.request("POST", path, manifest, dryRun="All", fieldValidation="Strict")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="session")
def with_resources(control_plane: ControlPlane) -> ControlPlane:
    """The shared control plane, with Coxswain's resources and a namespace for these tests."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(MANIFESTS))
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(MANIFESTS))
    control_plane.kubectl("create", "namespace", NAMESPACE)
    return control_plane


@pytest.fixture(scope="session")
def client(with_resources: ControlPlane) -> Iterator[Client]:
    connection = Client(with_resources)
    yield connection
    connection.close()
