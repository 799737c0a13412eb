"""A model that cannot be served becomes a condition that names the field, and other services do not notice."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.cluster.waiting import wait_until
from e2e.install import apply_model_volume
from e2e.service import Service
from tests.e2e.conftest import UnderTraffic

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

SPOILED = {
    "nowhere": ("pvc://spoiled-models/nowhere", "ModelNotFound"),
    "corrupt": ("pvc://spoiled-models/corrupt", "WeightsCorrupt"),
    "tokenizer": ("pvc://spoiled-models/tokenizer", "TokenizerMismatch"),
}
NAMESPACE = "spoiled"


@pytest.fixture(scope="module")
def spoiled(cluster: Cluster) -> Iterator[str]:
    """A namespace with a volume of models, each spoiled in its own way."""
    good = Path(json.loads(cluster.kubectl("get", "pv", "tiny-model", "-o", "json"))["spec"]["hostPath"]["path"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in ("corrupt", "tokenizer"):
            shutil.copytree(good, root / name)
        weights = root / "corrupt" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100_000])
        tokenizer = json.loads((root / "tokenizer" / "tokenizer.json").read_text())
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["one too many"] = 1_000_000
        (root / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
        cluster.kubectl("create", "namespace", NAMESPACE)
        apply_model_volume(cluster.kubectl, root, namespace=NAMESPACE, name="spoiled-models")
        yield NAMESPACE
        # A namespace with Pods in it sleeps on half of their grace period before it looks again: empty it first.
        cluster.kubectl("-n", NAMESPACE, "delete", "llmservices", "--all")
        gone = ("-n", NAMESPACE, "wait", "--for=delete", "pods", "--all", "--timeout=120s")
        cluster.kubectl(*gone, timeout=130)
        cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", timeout=130)
        cluster.kubectl("delete", "pv", "spoiled-models")


def test_spoiled_models_become_conditions(cluster: Cluster, spoiled: str, under_traffic: UnderTraffic) -> None:
    def apply() -> None:
        for name, (uri, _) in SPOILED.items():
            manifest = {
                "apiVersion": "coxswain.dev/v1alpha1",
                "kind": "LLMService",
                "metadata": {"name": name, "namespace": spoiled},
                "spec": {"model": {"uri": uri}},
            }
            cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    under_traffic.assert_clean(apply)
    for name, (_, reason) in SPOILED.items():
        service = Service(cluster.kubectl, name, spoiled)

        def explained(service: Service = service, reason: str = reason) -> str:
            condition = service.conditions().get("WorkloadsReady", {})
            return str(condition["message"]) if condition.get("reason") == reason else ""

        message = wait_until(explained, what=f"{name} to say {reason}", timeout=120, period=1)
        assert "spec.model.uri" in message
    under_traffic.assert_clean(lambda: None)
