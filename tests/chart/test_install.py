"""Install, upgrade, uninstall, on a real API server; there are no nodes, so nothing is waited for."""

from __future__ import annotations

import base64
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import CommandError
from e2e.cluster.waiting import wait_until
from tests.chart.conftest import CHART, NAMESPACE, Object
from tests.crds.manifests import full_spec, llm_service

pytestmark = pytest.mark.apiserver

NAME = "coxswain-operator"
DEFINITIONS = ("llmservices.coxswain.dev", "acceleratorclasses.coxswain.dev")


def install(plane: ControlPlane, *settings: str, chart: Path = CHART) -> str:
    flags = [f"--set={setting}" for setting in settings]
    return plane.helm("upgrade", "--install", "coxswain", str(chart), "-n", NAMESPACE, "--create-namespace", *flags)


def uninstall(plane: ControlPlane) -> str:
    return plane.helm("uninstall", "coxswain", "-n", NAMESPACE, "--wait")


def get(plane: ControlPlane, kind: str, name: str, namespace: str = NAMESPACE) -> Object:
    found: Object = json.loads(plane.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return found


def certificate(plane: ControlPlane) -> dict[str, Any]:
    """What Secret, webhook and Pods say about the certificate."""
    configuration = get(plane, "validatingwebhookconfiguration", f"{NAMESPACE}-{NAME}")
    template = get(plane, "deployment", NAME)["spec"]["template"]
    return {
        "secret": get(plane, "secret", f"{NAME}-certificate")["data"],
        "trusted": configuration["webhooks"][0]["clientConfig"]["caBundle"],
        "mark": template["metadata"]["annotations"]["coxswain.dev/certificate"],
    }


def test_installing_makes_pods_that_the_cluster_admits(plane: ControlPlane) -> None:
    notes = install(plane)
    assert "kubectl apply" in notes
    assert "file:// models are refused" in notes
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in DEFINITIONS))

    def pods() -> bool:  # Pod Security refuses them at creation, if it does
        listed = plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "name")
        return len(listed.split()) == 2

    wait_until(pods, what="two Pods of the operator", timeout=30)


def test_the_certificate_is_good_for_ten_years_and_for_the_service(plane: ControlPlane) -> None:
    install(plane)
    found = certificate(plane)
    authority = x509.load_pem_x509_certificate(base64.b64decode(found["trusted"]))
    served = x509.load_pem_x509_certificate(base64.b64decode(found["secret"]["tls.crt"]))
    served.verify_directly_issued_by(authority)
    hosts = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert hosts.get_values_for_type(x509.DNSName) == [f"{NAME}.{NAMESPACE}.svc"]
    assert served.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3640)
    assert authority.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3640)


def test_an_upgrade_keeps_the_certificate(plane: ControlPlane) -> None:
    install(plane)
    before = certificate(plane)
    install(plane, "operator.logLevel=debug")
    assert certificate(plane) == before
    args = get(plane, "deployment", NAME)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--log-level=debug" in args


def test_an_upgrade_upgrades_the_definitions(plane: ControlPlane, tmp_path: Path) -> None:
    older = tmp_path / "coxswain"
    shutil.copytree(CHART, older)
    path = older / "templates" / "crds" / "llmservices.yaml"
    path.write_text(path.read_text().replace("maximum: 1000\n", "maximum: 2\n"))
    service = json.dumps(llm_service(full_spec(), name="bigger"))
    create = ("create", "--dry-run=server", "-f", "-")

    install(plane, "webhook.enabled=false", chart=older)
    with pytest.raises(CommandError, match="less than or equal to 2"):
        plane.kubectl(*create, stdin=service)
    install(plane, "webhook.enabled=false")
    wait_until(lambda: accepts(plane, create, service), what="the new definition to be served", timeout=30)


def accepts(plane: ControlPlane, create: tuple[str, ...], manifest: str) -> bool:
    try:
        return "created" in plane.kubectl(*create, stdin=manifest)
    except CommandError as error:
        assert "less than or equal to 2" in str(error)
        return False


def test_when_no_operator_answers_the_policy_decides(plane: ControlPlane) -> None:
    create = ("create", "--dry-run=server", "-f", "-")
    manifest = json.dumps(llm_service(name="unseen"))
    install(plane, "webhook.failurePolicy=Fail")
    wait_until(lambda: refused_unseen(plane, create, manifest), what="the API server to call the webhook", timeout=30)
    install(plane, "webhook.failurePolicy=Ignore")
    wait_until(lambda: not refused_unseen(plane, create, manifest), what="the API server to see the policy", timeout=30)


def refused_unseen(plane: ControlPlane, create: tuple[str, ...], manifest: str) -> bool:
    try:
        plane.kubectl(*create, stdin=manifest)
    except CommandError as error:
        assert "failed calling webhook" in str(error)
        return True
    return False


def test_uninstalling_keeps_definitions_and_services_and_nothing_else(plane: ControlPlane) -> None:
    install(plane, "webhook.enabled=false")
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(llm_service(name="stays")))
    assert "kept due to the resource policy" in uninstall(plane)
    assert get(plane, "llms", "stays", namespace="default")["spec"]["scaling"] == {"replicas": 1}
    ours = "app.kubernetes.io/instance=coxswain"
    kinds = "deploy,svc,secret,sa,pdb,role,rolebinding,clusterrole,clusterrolebinding,validatingwebhookconfiguration"
    assert plane.kubectl("get", kinds, "-n", NAMESPACE, "-l", ours, "-o", "name") == ""

    install(plane)
    assert get(plane, "llms", "stays", namespace="default")["metadata"]["name"] == "stays"
    plane.kubectl("delete", "llms", "stays")
