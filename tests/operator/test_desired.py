"""The manifests of a service."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from coxswain_crds.llm_service import LLMService
from coxswain_operator.cluster.records import ClassRecord
from coxswain_operator.desired import replica
from coxswain_operator.desired.children import children
from coxswain_operator.desired.digest import digest, digest_of
from coxswain_operator.desired.model import mounted
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.desired.secret import secret
from coxswain_operator.settings import Settings

SETTINGS = Settings("worker:1", "gateway:1", image_pull_secrets=("pull",), allowed_file_prefixes=("/srv/models",))
GPU = ClassRecord("l40s", 1, "nvidia.com/gpu", (("gpu", "l40s"),))


def owner(**spec: Any) -> Owner:
    manifest = {
        "apiVersion": "coxswain.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "chat", "namespace": "team"},
        "spec": {"model": {"uri": "pvc://models/tiny"}} | spec,
    }
    return Owner("team", "chat", "uid-1", LLMService.model_validate(manifest).spec)


def everything(found: Owner) -> dict[tuple[str, str], dict[str, Any]]:
    return {(body["kind"], body["metadata"]["name"]): body for body in children(found, SETTINGS)}


def pod(found: Owner, **classes: ClassRecord) -> dict[str, Any]:
    return replica.pod(found, replica.template(found, SETTINGS, classes), slot=2, incarnation=5)


def engine(found: Owner, **classes: ClassRecord) -> dict[str, Any]:
    container: dict[str, Any] = pod(found, **classes)["spec"]["containers"][0]
    return container


def test_a_service_has_exactly_the_objects_of_the_architecture_page() -> None:
    assert set(everything(owner())) == {
        ("Service", "chat"),
        ("Service", "chat-gateways"),
        ("Service", "chat-coordinator"),
        ("Deployment", "chat-gateway"),
        ("Deployment", "chat-coordinator"),
        ("PodDisruptionBudget", "chat"),
    }


def test_all_carry_labels_and_the_owner() -> None:
    for body in [*everything(owner()).values(), pod(owner()), secret(owner(), known={})]:
        labels = body["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "coxswain"
        assert labels["coxswain.dev/service"] == "chat"
        (reference,) = body["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"], reference["blockOwnerDeletion"]) == ("uid-1", True, False)


def pod_specs() -> list[dict[str, Any]]:
    found = everything(owner())
    deployments = [body["spec"]["template"]["spec"] for (kind, _), body in found.items() if kind == "Deployment"]
    return [*deployments, pod(owner())["spec"]]


@pytest.mark.parametrize("spec", pod_specs(), ids=["gateway", "coordinator", "replica"])
def test_every_pod_is_restricted_and_has_no_access_to_the_api(spec: dict[str, Any]) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert spec["imagePullSecrets"] == [{"name": "pull"}]


def test_gateways_and_coordinator_leave_a_dead_node_after_ten_seconds_and_replicas_stay() -> None:
    gateway, coordinator, of_replica = pod_specs()
    for spec in (gateway, coordinator):
        assert {toleration["tolerationSeconds"] for toleration in spec["tolerations"]} == {10}
    assert all("tolerationSeconds" not in toleration for toleration in of_replica["tolerations"])


def test_a_rollout_of_the_gateways_never_has_fewer() -> None:
    spec = everything(owner())["Deployment", "chat-gateway"]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (constraint,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


def test_the_budget_covers_exactly_the_replicas() -> None:
    selected = everything(owner())["PodDisruptionBudget", "chat"]["spec"]["selector"]["matchLabels"]
    others = [body["spec"]["template"]["metadata"]["labels"] for key, body in everything(owner()).items()
              if key[0] == "Deployment"]  # fmt: skip
    assert selected.items() <= pod(owner())["metadata"]["labels"].items()
    assert not any(selected.items() <= labels.items() for labels in others)


def test_a_replica_pod() -> None:
    body = pod(owner(resilience={"drainTimeout": "2m", "replay": "Exact"}, engine={"args": ["--max-num-seqs=64"]}))
    assert body["metadata"]["name"] == "chat-serve-2-5"
    assert body["metadata"]["labels"]["coxswain.dev/slot"] == "2"
    assert body["metadata"]["labels"]["coxswain.dev/incarnation"] == "5"
    assert body["spec"]["terminationGracePeriodSeconds"] == 150
    container = body["spec"]["containers"][0]
    assert container["name"] == "engine"
    assert container["args"] == [
        "--gateways=chat-gateways.team.svc:8001",
        "--replica=$(POD_NAME)",
        "--model=/models/tiny",
        "--replay=Exact",
        "--on-drain=Migrate",
        "--drain-seconds=120",
        "--status-port=8002",
        "--max-num-seqs=64",
    ]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8002}
    variables = {variable["name"] for variable in container["env"]}
    assert variables >= {"COXSWAIN_TOKEN", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"}
    assert {"name": "shm", "emptyDir": {"medium": "Memory"}} in body["spec"]["volumes"]


def test_an_accelerator_class_becomes_a_limit_and_a_node_selector() -> None:
    found = owner(roles=[{"name": "Serve", "accelerators": [{"class": "l40s"}]}])
    assert pod(found, l40s=GPU)["spec"]["nodeSelector"] == {"gpu": "l40s"}
    assert engine(found, l40s=GPU)["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert "--accelerator=l40s" in engine(found, l40s=GPU)["args"]


def test_models_from_a_claim_a_repository_and_the_node() -> None:
    def of(uri: str, revision: str | None = None) -> Any:
        source = owner(model={"uri": uri, "revision": revision}).spec.model
        return mounted(source, allowed_file_prefixes=["/srv/models"])

    claim = of("pvc://models/a/b")
    assert (claim.argument, claim.mount["readOnly"]) == ("/models/a/b", True)
    assert claim.volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    hub = of("hf://org/name", "v1")
    assert hub.argument == "hf://org/name@v1"
    assert hub.env == ({"name": "HF_HOME", "value": "/cache/huggingface"},)
    local = of("file:///srv/models/tiny")
    assert local.argument == "/models/tiny"
    assert local.volume["hostPath"] == {"path": "/srv/models", "type": "Directory"}
    with pytest.raises(ValueError, match="none of the allowed directories"):
        of("file:///srv/models-of-others/tiny")


def test_a_template_is_laid_over_the_pod() -> None:
    patch = {
        "metadata": {"labels": {"team": "a", "coxswain.dev/service": "forged"}, "annotations": {"note": "x"}},
        "spec": {
            "containers": [
                {"name": "engine", "resources": {"limits": {"memory": "8Gi"}}, "env": [{"name": "A", "value": "b"}]},
                {"name": "sidecar", "image": "sidecar:1"},
            ],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "priorityClassName": "high",
        },
    }
    body = pod(owner(roles=[{"name": "Serve", "template": patch}]))
    container, sidecar = body["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "512Mi"},
        "limits": {"memory": "8Gi"},
    }
    assert {"name": "A", "value": "b"} in container["env"]
    assert any(variable["name"] == "COXSWAIN_TOKEN" for variable in container["env"])
    assert sidecar == {"name": "sidecar", "image": "sidecar:1"}
    assert len(body["spec"]["tolerations"]) == 3
    assert body["spec"]["priorityClassName"] == "high"
    assert body["metadata"]["labels"]["coxswain.dev/service"] == "chat"
    assert body["metadata"]["labels"]["team"] == "a"


def test_a_pods_digest_follows_what_it_is_made_from_and_nothing_else() -> None:
    def of(**spec: Any) -> str:
        return digest_of(replica.template(owner(**spec), SETTINGS, {}))

    base = of()
    assert of(scaling={"replicas": 9}) == base
    assert of(objectives={"ttft": {"target": "1s"}}) == base
    changes: list[dict[str, Any]] = [
        {"engine": {"args": ["--x"]}},
        {"model": {"uri": "pvc://models/tiny", "revision": "2"}},
        {"model": {"uri": "pvc://models/other"}},
        {"resilience": {"replay": "Exact"}},
        {"roles": [{"name": "Serve", "template": {"metadata": {"annotations": {"restarted": "now"}}}}]},
    ]
    found = {of(**change) for change in changes}
    assert len(found) == len(changes)
    assert base not in found


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_a_secret_keeps_what_is_known() -> None:
    made = secret(owner(), known={"token": "a2VwdA=="}, token=lambda: "new")["data"]
    assert made == {"token": "a2VwdA==", "ray-token": base64.b64encode(b"new").decode()}
    assert secret(owner(), known={})["data"] != secret(owner(), known={})["data"]


def test_gateways_and_coordinator_are_told_the_objectives_that_are_stated() -> None:
    def args(name: str, **spec: Any) -> list[str]:
        found = everything(owner(**spec))["Deployment", name]["spec"]["template"]["spec"]["containers"][0]
        return [flag for flag in found["args"] if "-seconds=" in flag or "--attainment" in flag]

    assert args("chat-gateway") == args("chat-coordinator") == []
    stated = {"ttft": {"target": "1500ms", "percentile": 99}, "interToken": {"target": "50ms", "percentile": 90}}
    flags = ["--ttft-seconds=1.5", "--inter-token-seconds=0.05"]
    assert args("chat-gateway", objectives=stated) == flags
    assert args("chat-coordinator", objectives=stated) == [*flags, "--attainment=0.99"]
