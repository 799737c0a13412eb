"""The example's manifests, as a strict API server sees them."""

from __future__ import annotations

from pathlib import Path
from string import Template

import pytest
import yaml

from coxswain_crds.llm_service import LLMService
from e2e.cluster.control_plane import ControlPlane

EXAMPLES = Path(__file__).parents[2] / "examples"
CRDS = Path(__file__).parents[2] / "crds" / "manifests"


def test_the_service_asks_for_three_exact_replicas_of_the_volume_s_model() -> None:
    service = LLMService.model_validate(yaml.safe_load((EXAMPLES / "llmservice.yaml").read_text()))
    _, claim = yaml.safe_load_all(volume("/models/tiny"))
    assert service.spec.model.uri == f"pvc://{claim['metadata']['name']}/"
    assert (service.spec.scaling.replicas, service.spec.resilience.replay) == (3, "Exact")


def test_the_volume_is_at_the_path_given() -> None:
    persistent_volume, _ = yaml.safe_load_all(volume("/models/my tiny: one"))
    assert persistent_volume["spec"]["hostPath"]["path"] == "/models/my tiny: one"


@pytest.mark.apiserver
def test_a_strict_api_server_takes_them(control_plane: ControlPlane) -> None:
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
    for manifest in (volume("/models/tiny"), (EXAMPLES / "llmservice.yaml").read_text()):
        strict = ("--dry-run=server", "--validate=strict")
        assert "created" in control_plane.kubectl("create", *strict, "-f", "-", stdin=manifest)


def volume(model: str) -> str:
    return Template((EXAMPLES / "model-volume.yaml").read_text()).substitute(MODEL_DIR=model)
