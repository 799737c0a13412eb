"""What a real API server makes of the generated schemas."""

import json

import pytest
import yaml

from coxswain_crds import definitions
from coxswain_crds.schema import Model
from coxswain_crds.structural import structural
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import CommandError
from tests.crds.conftest import NAMESPACE, Client
from tests.crds.manifests import full_spec, llm_service

pytestmark = pytest.mark.apiserver


def apply(plane: ControlPlane, manifest: object, *flags: str) -> str:
    return plane.kubectl("apply", "-n", NAMESPACE, "-f", "-", *flags, stdin=json.dumps(manifest))


def refusal(plane: ControlPlane, manifest: object, *flags: str) -> str:
    with pytest.raises(CommandError) as caught:
        apply(plane, manifest, *flags)
    return str(caught.value)


@pytest.mark.parametrize("definition", [definitions.llm_services(), definitions.accelerator_classes()])
def test_the_schemas_are_accepted_as_structural(client: Client, definition: dict[str, object]) -> None:
    name = definition["metadata"]["name"]  # type: ignore[index]
    status, answer = client.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    assert status == 200
    conditions = {item["type"]: (item["status"], item["message"]) for item in answer["status"]["conditions"]}
    assert conditions["Established"][0] == "True"
    assert "NonStructuralSchema" not in conditions, conditions


def test_defaults_are_filled_in(client: Client) -> None:
    status, made = client.try_create(llm_service())
    assert status == 201
    assert made["spec"] == {
        "model": {"uri": "pvc://models/tiny"},
        "engine": {"type": "Native"},
        "objectives": {},
        "scaling": {"replicas": 1},
        "resilience": {"onDrain": "Migrate", "drainTimeout": "300s", "replay": "Seamless"},
    }


def test_every_field_survives(client: Client) -> None:
    status, made = client.try_create(llm_service(full_spec()))
    assert status == 201
    assert made["spec"] == full_spec()


def test_kubectl_names_every_wrong_field_at_once(with_resources: ControlPlane) -> None:
    spec = full_spec()
    spec["model"]["uri"] = "s3://bucket/model"
    spec["objectives"]["ttft"]["target"] = "fast"
    spec["objectives"]["interToken"]["target"] = "1h"
    spec["scaling"]["replicas"] = -1
    message = refusal(with_resources, llm_service(spec, name="my.chat"))
    assert "spec.model.uri: Invalid value" in message
    assert "must be hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH" in message
    assert "spec.objectives.ttft.target" in message
    assert "such as 500ms" in message
    assert "spec.objectives.interToken.target" in message
    assert "must be between 1ms and 10m" in message
    assert "spec.scaling.replicas" in message
    assert "metadata.name must start with a letter" in message


def test_an_unknown_field_is_refused_and_without_validation_dropped(with_resources: ControlPlane) -> None:
    manifest = llm_service({"model": {"uri": "hf://a/b"}, "scaling": {"replica": 3}}, name="unknown-field")
    assert 'unknown field "spec.scaling.replica"' in refusal(with_resources, manifest)
    made = yaml.safe_load(apply(with_resources, manifest, "--validate=false", "--dry-run=server", "-o", "yaml"))
    assert made["spec"]["scaling"] == {"replicas": 1}
    warned = apply(with_resources, manifest, "--validate=warn", "--dry-run=server")
    assert "unknown-field created" in warned


def test_a_wrong_type_is_refused_even_without_validation(with_resources: ControlPlane) -> None:
    manifest = llm_service({"model": {"uri": "hf://a/b"}, "scaling": {"replicas": "3"}})
    for flag in ("--validate=true", "--validate=false"):
        assert "spec.scaling.replicas" in refusal(with_resources, manifest, flag)


def test_scale_columns_and_short_name(with_resources: ControlPlane, client: Client) -> None:
    plane = with_resources
    apply(plane, llm_service(name="columns"))
    plane.kubectl("scale", "-n", NAMESPACE, "llms/columns", "--replicas=5")
    status = {
        "url": "http://columns.crds-tests.svc",
        "replicas": 5,
        "readyReplicas": 4,
        "selector": "coxswain.dev/service=columns",
        "revision": "v1",
        "lastDecision": "Made 4 replicas",
        "measured": {"ttftP95": "180ms", "attainmentPercent": 98},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Serving",
                "message": "A token was served 1 s ago",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "observedGeneration": 2,
            }
        ],
    }
    path = f"/apis/coxswain.dev/v1alpha1/namespaces/{NAMESPACE}/llmservices/columns"
    code, answer = client.request("PATCH", f"{path}/status", {"status": status}, kind="application/merge-patch+json")
    assert code == 200, answer
    assert answer["status"] == status
    scale = client.request("GET", f"{path}/scale")[1]
    assert scale["spec"] == {"replicas": 5}
    assert scale["status"] == {"replicas": 5, "selector": "coxswain.dev/service=columns"}

    head, row = plane.kubectl("get", "-n", NAMESPACE, "llms", "columns").splitlines()
    assert head.split() == ["NAME", "URL", "READY", "REASON", "REPLICAS", "TTFT-P95", "SLO%", "AGE"]
    assert row.split()[:7] == ["columns", status["url"], "True", "Serving", "4", "180ms", "98"]
    wide = plane.kubectl("get", "-n", NAMESPACE, "llms", "columns", "-o", "wide").splitlines()[0].split()
    assert wide[-4:] == ["WANTED", "ENGINE", "REVISION", "LASTDECISION"]
    assert "condition met" in plane.kubectl(
        "wait", "-n", NAMESPACE, "--for=condition=Ready", "llms/columns", "--timeout=5s"
    )
    with pytest.raises(CommandError, match="1000"):
        plane.kubectl("scale", "-n", NAMESPACE, "llms/columns", "--replicas=1001")


def test_int_or_string_is_one_or_the_other(with_resources: ControlPlane, client: Client) -> None:
    class Spec(Model):
        limit: int | str | None = None

    class Thing(Model):
        spec: Spec

    kind = {"kind": "Thing", "plural": "things", "singular": "thing"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": structural(Thing)}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.test.coxswain.dev"},
        "spec": {"group": "test.coxswain.dev", "names": kind, "scope": "Cluster", "versions": [version]},
    }
    status, answer = client.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    assert status == 201, answer
    with_resources.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/things.test.coxswain.dev")
    path = "/apis/test.coxswain.dev/v1/things"
    for value, expected in ((5, 201), ("5Gi", 201), (True, 422), ([], 422)):
        thing = {"apiVersion": "test.coxswain.dev/v1", "kind": "Thing", "metadata": {"name": "a"}}
        status, answer = client.request("POST", path, thing | {"spec": {"limit": value}}, dryRun="All")
        assert status == expected, answer


def test_explain_prints_the_docstrings(with_resources: ControlPlane) -> None:
    text = with_resources.kubectl("explain", "llmservice.spec.resilience.replay")
    assert "Seamless continues from the tokens already sent" in " ".join(text.split())
    tree = with_resources.kubectl("explain", "llmservice.spec", "--recursive")
    assert "drainTimeout" in tree
    assert "accelerators" in tree


def test_an_accelerator_class_is_cluster_wide(with_resources: ControlPlane) -> None:
    manifest = {"apiVersion": "coxswain.dev/v1alpha1", "kind": "AcceleratorClass", "metadata": {"name": "crds-h100"}}
    good = manifest | {"spec": {"resourceName": "nvidia.com/gpu", "nodeSelector": {"gpu": "h100"}}}
    with_resources.kubectl("create", "-f", "-", stdin=json.dumps(good))
    line = with_resources.kubectl("get", "acceleratorclasses", "crds-h100").splitlines()[1]
    assert line.split()[:2] == ["crds-h100", "nvidia.com/gpu"]
    with_resources.kubectl("delete", "acceleratorclass", "crds-h100")
    assert "such as nvidia.com/gpu" in refusal(with_resources, manifest | {"spec": {"resourceName": "gpu"}})
