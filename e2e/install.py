"""Coxswain and the example service on a local cluster, by the same chart and manifests that a user applies."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Protocol

from e2e.service import Kubectl, Service

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "coxswain"
EXAMPLES = ROOT / "examples"
SYSTEM_NAMESPACE = "coxswain-system"
LOCAL_VALUES = {
    "image.repository": "coxswain.dev/local",
    "image.tag": "dev",
}


class Helm(Protocol):
    """Runs helm against the cluster and returns its output; raises when it exits non-zero."""

    def __call__(self, *args: str, timeout: float = 120.0) -> str:
        """Arguments of helm, seconds it may take."""


def install_chart(helm: Helm, *, values: dict[str, str] | None = None) -> None:
    """`helm upgrade --install --wait`, into a namespace that enforces Pod Security "restricted"."""
    settings = [f"--set={key}={value}" for key, value in {**LOCAL_VALUES, **(values or {})}.items()]
    where = (f"--namespace={SYSTEM_NAMESPACE}", "--create-namespace")
    helm("upgrade", "--install", "coxswain", str(CHART), *where, *settings, "--wait", "--timeout=120s", timeout=150)


def restrict(kubectl: Kubectl, *namespaces: str) -> None:
    """Have the API server refuse Pods that are not "restricted" in these namespaces."""
    for namespace in namespaces:
        kubectl("label", "--overwrite", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")


def apply_model_volume(kubectl: Kubectl, model: Path, *, namespace: str = "default", name: str = "tiny-model") -> None:
    """The example's volume and claim, called `name`, with a folder of this machine in it."""
    manifest = Template((EXAMPLES / "model-volume.yaml").read_text()).substitute(MODEL_DIR=model)
    manifest = manifest.replace("tiny-model", name)
    kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)


def apply_service(kubectl: Kubectl, *, namespace: str = "default") -> Service:
    """The example LLMService, called `tiny`, with three replicas, and the accelerators it asks for."""
    kubectl("apply", "-f", str(EXAMPLES / "accelerator-class.yaml"))
    kubectl("-n", namespace, "apply", "-f", str(EXAMPLES / "llmservice.yaml"))
    return Service(kubectl, "tiny", namespace)
