"""What the Deployments of gateways and coordinator have in common: hardened Pods, replaced without a gap."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names
from coxswain_operator.desired import environment, placement, security
from coxswain_operator.desired.digest import digest
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.settings import Settings

Object = dict[str, Any]


def deployment(
    owner: Owner, settings: Settings, *, name: str, component: str, replicas: int, pod: Object, container: Object
) -> Object:
    """The Deployment of a component. `pod` and `container` are what is particular to its PodSpec and container."""
    spec = _pod_spec(owner, settings, container) | pod
    labels = names.common_labels(owner.name, component)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(name, component),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": names.component_selector(owner.name, component)},
            # One too many does no harm, and a new Pod need not wait for one on a dead node.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels, "annotations": {names.ANNOTATION_SPEC_HASH: digest(spec)}},
                "spec": spec,
            },
        },
    }


def _pod_spec(owner: Owner, settings: Settings, container: Object) -> Object:
    volume, mount = security.scratch()
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security.pod_security(),
        "imagePullSecrets": settings.pull_secrets(),
        "tolerations": placement.leave_dead_nodes(),
        "containers": [_container(owner, settings, mount) | container],
        "volumes": [volume],
    }


def _container(owner: Owner, settings: Settings, mount: Object) -> Object:
    return {
        "imagePullPolicy": settings.image_pull_policy,
        "env": [environment.pod_name(), environment.home(), environment.token(owner.name)],
        "startupProbe": environment.probe("/live", names.STATUS_PORT, period=2, failures=60),
        "livenessProbe": environment.probe("/live", names.STATUS_PORT, period=10, failures=3),
        "securityContext": security.container_security(),
        "volumeMounts": [mount],
    }
