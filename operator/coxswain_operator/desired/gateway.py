"""The gateways' Deployment: two, on different nodes where there are two, replaced one by one without a gap."""

from __future__ import annotations

from typing import Any, Final

from coxswain_crds import names
from coxswain_operator.desired import environment, placement, security
from coxswain_operator.desired.digest import digest
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.settings import Settings

Object = dict[str, Any]

REPLICAS: Final = 2
GRACE_SECONDS: Final = 3600
"""A leaving gateway ends once its streams have; this is how long they may take."""


def gateway(owner: Owner, settings: Settings) -> Object:
    """The Deployment."""
    selector = names.component_selector(owner.name, names.GATEWAY)
    template = _template(owner, settings, selector)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(names.gateway_deployment(owner.name), names.GATEWAY),
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


def _template(owner: Owner, settings: Settings, selector: dict[str, str]) -> Object:
    volume, mount = security.scratch()
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security.pod_security(),
        "imagePullSecrets": settings.pull_secrets(),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "tolerations": placement.leave_dead_nodes(),
        "affinity": placement.apart_from(selector),
        "topologySpreadConstraints": placement.spread(selector, per_revision=True),
        "containers": [_container(owner, settings, mount)],
        "volumes": [volume],
    }
    annotations = {names.ANNOTATION_SPEC_HASH: digest(spec)}
    return {"metadata": {"labels": names.common_labels(owner.name, names.GATEWAY), "annotations": annotations}} | {
        "spec": spec
    }


def _container(owner: Owner, settings: Settings, mount: Object) -> Object:
    return {
        "name": names.GATEWAY,
        "image": settings.gateway_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "coxswain_gateway"],
        "args": [
            f"--service={owner.name}",
            f"--namespace={owner.namespace}",
            f"--model={owner.spec.model.served or owner.name}",
            "--gateway=$(POD_NAME)",
            f"--port={names.HTTP_PORT}",
            f"--replica-port={names.REPLICA_PORT}",
            f"--status-port={names.STATUS_PORT}",
            f"--replay={owner.spec.resilience.replay}",
        ],
        "env": [environment.pod_name(), environment.home(), environment.token(owner.name)],
        "ports": [
            environment.port(names.PORT_NAME_HTTP, names.HTTP_PORT),
            environment.port(names.PORT_NAME_REPLICAS, names.REPLICA_PORT),
            environment.port(names.PORT_NAME_STATUS, names.STATUS_PORT),
        ],
        "startupProbe": environment.probe("/live", names.STATUS_PORT, period=2, failures=60),
        "readinessProbe": environment.probe("/health", names.HTTP_PORT, period=2, failures=2),
        "livenessProbe": environment.probe("/live", names.STATUS_PORT, period=10, failures=3),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "securityContext": security.container_security(),
        "volumeMounts": [mount],
    }
