import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from coxswain_crds import generate, names
from e2e.cluster.binaries import binaries
from tests.chart.conftest import CHART, NAMESPACE, HelmError, Object, Render, one

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def objects(render: Render) -> list[Object]:
    """The chart with its defaults."""
    return render()


def container(objects: list[Object]) -> Object:
    (only,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    found: Object = only
    return found


def test_the_chart_has_no_lint() -> None:
    done = subprocess.run(
        [binaries() / "helm", "lint", "--strict", "--kube-version", "1.34", CHART],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_definitions_are_the_generated_ones_and_survive_an_uninstall(objects: list[Object]) -> None:
    rendered = {item["metadata"]["name"]: item for item in objects if item["kind"] == "CustomResourceDefinition"}
    generated = {item["metadata"]["name"]: item for item in map(yaml.safe_load, generate.documents().values())}
    assert rendered == generated
    for definition in rendered.values():
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_definitions_can_be_left_to_others(render: Render) -> None:
    assert "CustomResourceDefinition" not in {item["kind"] for item in render("crds.install=false")}


def test_pods_are_restricted(objects: list[Object]) -> None:
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(objects)["resources"]["requests"].keys() == {"cpu", "memory"}


def test_two_operators_are_spread_and_leave_a_dead_node_soon(objects: list[Object]) -> None:
    spec = one(objects, "Deployment")["spec"]
    assert spec["replicas"] == 2
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    tolerated = {t["key"]: t["tolerationSeconds"] for t in spec["template"]["spec"]["tolerations"]}
    assert tolerated == {"node.kubernetes.io/unreachable": 10, "node.kubernetes.io/not-ready": 10}
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_ports_and_probes_are_where_the_operator_listens(objects: list[Object]) -> None:
    operator = container(objects)
    ports = {port["name"]: port["containerPort"] for port in operator["ports"]}
    assert ports == {"metrics": names.OPERATOR_METRICS_PORT, "webhook": names.WEBHOOK_PORT}
    assert operator["livenessProbe"]["httpGet"] == {"path": "/live", "port": "metrics"}
    assert operator["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics"}
    service = one(objects, "Service")
    assert {port["name"]: port["targetPort"] for port in service["spec"]["ports"]} == {
        "metrics": "metrics",
        "webhook": "webhook",
    }
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_the_webhook_leads_to_the_service_and_skips_what_does_not_change_a_spec(objects: list[Object]) -> None:
    (webhook,) = one(objects, "ValidatingWebhookConfiguration")["webhooks"]
    target = webhook["clientConfig"]["service"]
    assert (target["name"], target["namespace"], target["path"]) == (
        one(objects, "Service")["metadata"]["name"],
        NAMESPACE,
        names.WEBHOOK_PATH,
    )
    (rule,) = webhook["rules"]
    assert rule["apiGroups"] == [names.GROUP]
    assert rule["resources"] == [names.LLM_SERVICES, names.ACCELERATOR_CLASSES], "status and scale are not for it"
    assert "object.spec != oldObject.spec" in webhook["matchConditions"][0]["expression"]
    assert webhook["clientConfig"]["caBundle"] == one(objects, "Secret")["data"]["ca.crt"]


def test_values_become_flags(render: Render) -> None:
    objects = render(
        "image.repository=example/coxswain", "image.tag=v9", "workerImage=example/worker:v8", "image.pullPolicy=Never",
        "imagePullSecrets={a,b}", "modelSources.allowedFilePrefixes={/srv/models,/data}", "operator.logLevel=debug",
    )  # fmt: skip
    assert container(objects)["image"] == "example/coxswain:v9"
    assert set(container(objects)["args"]) == {
        "--namespace=$(POD_NAMESPACE)",
        "--identity=$(POD_NAME)",
        "--worker-image=example/worker:v8",
        "--gateway-image=example/coxswain:v9",
        "--image-pull-policy=Never",
        "--image-pull-secrets=a",
        "--image-pull-secrets=b",
        "--allowed-file-prefix=/srv/models",
        "--allowed-file-prefix=/data",
        "--metrics-port=8080",
        "--webhook-port=9443",
        "--webhook-cert=/certificate",
        "--log-level=debug",
    }
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_no_file_model_is_allowed_by_default(objects: list[Object]) -> None:
    assert not [arg for arg in container(objects)["args"] if arg.startswith("--allowed-file-prefix")]


def test_without_a_webhook_nothing_of_it_is_left(render: Render) -> None:
    objects = render("webhook.enabled=false")
    kinds = {item["kind"] for item in objects}
    assert not kinds & {"Secret", "ValidatingWebhookConfiguration"}
    assert not [arg for arg in container(objects)["args"] if "webhook" in arg]
    assert [port["name"] for port in one(objects, "Service")["spec"]["ports"]] == ["metrics"]


def test_cert_manager_can_make_the_certificate(render: Render) -> None:
    objects = render("webhook.certManager.enabled=true")
    certificate = one(objects, "Certificate")
    configuration = one(objects, "ValidatingWebhookConfiguration")
    injected = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert injected == f"{NAMESPACE}/{certificate['metadata']['name']}"
    assert "caBundle" not in configuration["webhooks"][0]["clientConfig"]
    mounted = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"]
    assert certificate["spec"]["secretName"] == mounted
    assert "Secret" not in {item["kind"] for item in objects}


def test_roles_hold_no_wildcards_and_the_lease_is_the_only_one(objects: list[Object]) -> None:
    for kind in ("ClusterRole", "Role"):
        for rule in one(objects, kind)["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
    lease = one(objects, "Role")["rules"][0]
    assert lease["resourceNames"] == [names.LEASE]


WRONG = {
    "operator.replica=3": "'/operator'",
    "operator.replicas=0": "'/operator/replicas'",
    "operator.logLevel=loud": "'/operator/logLevel'",
    "image.pullPolicy=Sometimes": "'/image/pullPolicy'",
    "image.repository=": "'/image/repository'",
    "webhook.failurePolicy=Maybe": "'/webhook/failurePolicy'",
    "webhook.enabled=maybe": "'/webhook/enabled'",
    "modelSources.allowedFilePrefixes={srv}": "'/modelSources/allowedFilePrefixes/0'",
    "modelSources.allowedFilePrefixes={/srv/../etc}": "'/modelSources/allowedFilePrefixes/0'",
    "imagePullSecrets[0].name=x": "'/imagePullSecrets/0'",
    "webhok.enabled=false": "'webhok' not allowed",
}


@pytest.mark.parametrize(("setting", "where"), WRONG.items())
def test_a_wrong_value_is_refused_with_its_path(render: Render, setting: str, where: str) -> None:
    with pytest.raises(HelmError) as caught:
        render(setting)
    assert where in str(caught.value)


def leaves(values: dict[str, Any], path: str = ".Values") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value and name != "resources":
            yield from leaves(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def test_every_value_is_used() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [value for value in leaves(values) if value not in templates] == []
