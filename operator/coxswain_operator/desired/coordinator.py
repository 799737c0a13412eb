"""The coordinator's Deployment: one Pod, which may be missed for a while, rather not beside a gateway."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names
from coxswain_operator.desired import environment, placement, security
from coxswain_operator.desired.digest import digest
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.settings import Settings

Object = dict[str, Any]


def coordinator(owner: Owner, settings: Settings) -> Object:
    """The Deployment."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(names.coordinator(owner.name), names.COORDINATOR),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": names.component_selector(owner.name, names.COORDINATOR)},
            # It keeps no state, so two at a time do no harm, and a new one need not wait for one on a dead node.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": _template(owner, settings),
        },
    }


def _template(owner: Owner, settings: Settings) -> Object:
    volume, mount = security.scratch()
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security.pod_security(),
        "imagePullSecrets": settings.pull_secrets(),
        "terminationGracePeriodSeconds": 10,
        "tolerations": placement.leave_dead_nodes(),
        "affinity": placement.apart_from(names.component_selector(owner.name, names.GATEWAY)),
        "containers": [_container(owner, settings, mount)],
        "volumes": [volume],
    }
    annotations = {names.ANNOTATION_SPEC_HASH: digest(spec)}
    labels = names.common_labels(owner.name, names.COORDINATOR)
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _container(owner: Owner, settings: Settings, mount: Object) -> Object:
    return {
        "name": names.COORDINATOR,
        "image": settings.worker_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "coxswain_workers.coordinator"],
        "args": [
            f"--service={owner.name}",
            f"--gateways={owner.gateways_host()}:{names.STATUS_PORT}",
            f"--status-port={names.STATUS_PORT}",
        ],
        "env": [environment.pod_name(), environment.home(), environment.token(owner.name)],
        "ports": [environment.port(names.PORT_NAME_STATUS, names.STATUS_PORT)],
        "startupProbe": environment.probe("/live", names.STATUS_PORT, period=2, failures=60),
        "readinessProbe": environment.probe("/ready", names.STATUS_PORT, period=2, failures=2),
        "livenessProbe": environment.probe("/live", names.STATUS_PORT, period=10, failures=3),
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
        "securityContext": security.container_security(),
        "volumeMounts": [mount],
    }
