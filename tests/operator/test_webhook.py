"""The webhook, called by a real API server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.cluster.errors import CommandError
from tests.operator.conftest import GROUP, Namespace, Operator, eventually

pytestmark = pytest.mark.apiserver

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@pytest.fixture
def webhook(namespace: Namespace, operators: Callable[..., Operator], tmp_path: Path) -> Iterator[Operator]:
    """An operator that the API server asks about everything in the namespace."""
    authority = namespace.plane.authority
    certificate = authority.issue("webhook", user="webhook", hosts=["localhost", "127.0.0.1"])
    (tmp_path / "tls.crt").write_bytes(certificate.certificate.read_bytes())
    (tmp_path / "tls.key").write_bytes(certificate.key.read_bytes())
    operator = operators("webhook", f"--webhook-cert={tmp_path}", "--allowed-file-prefix=/models").ready()
    rule = {
        **{"apiGroups": ["coxswain.dev"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"]},
        "resources": ["llmservices", "acceleratorclasses"],
    }
    bundle = base64.b64encode(authority.certificate.read_bytes()).decode()
    hook = {
        "name": "validate.coxswain.dev",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": f"https://127.0.0.1:{operator.ports[1]}/validate", "caBundle": bundle},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
        "rules": [rule],
        "sideEffects": "None",
    }
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace.name},
        "webhooks": [hook],
    }
    assert namespace.client.request("POST", CONFIGURATIONS, body)[0] == 201
    yield operator
    namespace.client.request("DELETE", f"{CONFIGURATIONS}/{namespace.name}")


def create(namespace: Namespace, spec: object) -> tuple[int, dict[str, object]]:
    body = {
        "apiVersion": "coxswain.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "chat", "namespace": namespace.name},
        "spec": spec,
    }
    return namespace.client.request("POST", f"{GROUP}/namespaces/{namespace.name}/llmservices", body)


def test_a_good_service_is_admitted(namespace: Namespace, webhook: Operator) -> None:
    assert create(namespace, {"model": {"uri": "file:///models/tiny"}})[0] == 201


def test_a_bad_one_is_refused_with_422_and_the_field(namespace: Namespace, webhook: Operator) -> None:
    status, answer = create(namespace, {"model": {"uri": "file:///etc/passwd"}})
    assert status == 422
    assert "spec.model.uri: " in str(answer["message"])
    assert "/models" in str(answer["message"])


def test_every_error_has_its_own_line(namespace: Namespace, webhook: Operator) -> None:
    """An objective below the engine's measured step, known from the status, and a path that is not allowed."""
    assert create(namespace, {"model": {"uri": "pvc://models/tiny"}})[0] == 201
    path = f"{GROUP}/namespaces/{namespace.name}/llmservices/chat"
    status = {"status": {"measured": {"stepFloor": "20ms"}}}
    merge = "application/merge-patch+json"
    assert namespace.client.request("PATCH", f"{path}/status", status, kind=merge)[0] == 200
    bad = {
        "model": {"uri": "file:///etc/models"},
        "objectives": {"ttft": {"target": "10ms"}, "interToken": {"target": "5ms"}},
    }

    def refused() -> list[str]:
        code, answer = namespace.client.request("PATCH", path, {"spec": bad}, kind=merge)
        assert code == 422, answer
        return (
            str(answer["message"])
            .removeprefix('admission webhook "validate.coxswain.dev" denied the request: ')
            .splitlines()
        )

    lines = eventually(lambda: len(found := refused()) > 1 and found, "the operator to have seen the status")
    assert [line.split(":")[0] for line in lines] == [
        "spec.model.uri",
        "spec.objectives.ttft.target",
        "spec.objectives.interToken.target",
    ]
    assert lines[2].endswith("the nearest that can be met is 20ms")


def test_what_looks_like_a_mistake_is_a_warning(namespace: Namespace, webhook: Operator) -> None:
    manifest = {
        "apiVersion": "coxswain.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "chat"},
        "spec": {"model": {"uri": "hf://org/name"}, "scaling": {"replicas": 0}},
    }
    plane = namespace.plane
    with pytest.raises(CommandError) as caught:
        plane.kubectl("create", "-n", namespace.name, "--warnings-as-errors", "-f", "-", stdin=json.dumps(manifest))
    assert "spec.scaling.replicas: with 0 replicas" in str(caught.value)
    assert "spec.model.revision" in str(caught.value)


def test_readiness_needs_an_answering_webhook(
    namespace: Namespace, operators: Callable[..., Operator], tmp_path: Path
) -> None:
    certificate = namespace.plane.authority.issue("probe", user="webhook", hosts=["localhost"])
    (tmp_path / "tls.crt").write_bytes(certificate.certificate.read_bytes())
    (tmp_path / "tls.key").write_bytes(certificate.key.read_bytes())
    operator = operators("first", f"--webhook-cert={tmp_path}").ready()
    assert operator.page("/ready") == (200, "ready\n")
    assert operator.page("/live")[0] == 200
