"""Manifests that several tests start from."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def llm_service(spec: object = None, *, name: str = "chat") -> Object:
    """The smallest LLMService, or one with this spec."""
    return {
        "apiVersion": "coxswain.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": {"model": {"uri": "pvc://models/tiny"}} if spec is None else spec,
    }


def full_spec() -> Object:
    """A spec that says everything that can be said."""
    return {
        "model": {"uri": "hf://acme/small-1.5B", "revision": "v1.0", "served": "small"},
        "engine": {"type": "Native", "image": "example/worker:1", "args": ["--max-num-seqs=8"]},
        "roles": [
            {
                "name": "Serve",
                "accelerators": [{"class": "h100"}],
                "template": {
                    "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
                    "spec": {
                        "containers": [{"name": "engine", "resources": {"requests": {"cpu": 2, "memory": "4Gi"}}}]
                    },
                },
            }
        ],
        "objectives": {
            "ttft": {"percentile": 95, "target": "500ms"},
            "interToken": {"percentile": 90, "target": "50ms"},
        },
        "scaling": {"replicas": 3},
        "resilience": {"onDrain": "Migrate", "drainTimeout": "5m", "replay": "Exact"},
    }
