"""The Pod of a replica. Made once and never changed: what it was made from is in its digest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from coxswain_crds import durations, names
from coxswain_operator.cluster.records import ClassRecord
from coxswain_operator.desired import environment, placement, security
from coxswain_operator.desired.digest import digest
from coxswain_operator.desired.model import MountedModel, mounted
from coxswain_operator.desired.overlay import overlay
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.settings import Settings

Object = dict[str, Any]

CONTAINER: Final = "engine"
"""Users patch it by this name: `kubectl explain llmservice.spec.roles.template.spec` says so."""
GRACE_MARGIN_SECONDS: Final = 30
"""Between the end of the drain and the kubelet's kill."""


def template(owner: Owner, settings: Settings, classes: Mapping[str, ClassRecord]) -> Object:
    """What all replica Pods of one spec share: labels, annotations with the digest, spec.

    Raises KeyError for an AcceleratorClass, ValueError for a path, that validation lets through in no case.
    """
    patch = owner.spec.serve.template
    spec = overlay(_spec(owner, settings, classes), patch.spec)
    extra = {"labels": dict(patch.metadata.labels), "annotations": dict(patch.metadata.annotations)}
    # The revision of a volume's content is in no other field, and changing it must replace the Pods.
    hashed = {"spec": spec, "metadata": extra, "revision": owner.spec.model.revision}
    extra["annotations"] |= {names.ANNOTATION_SPEC_HASH: digest(hashed)}
    return {"metadata": extra, "spec": spec}


def pod(owner: Owner, shared: Object, *, slot: int, incarnation: int) -> Object:
    """One Pod from `template`."""
    metadata = owner.metadata(names.replica_pod(owner.name, slot=slot, incarnation=incarnation), names.REPLICA)
    ours = names.replica_labels(owner.name, slot=slot, incarnation=incarnation)
    metadata["labels"] = shared["metadata"]["labels"] | ours
    metadata["annotations"] = shared["metadata"]["annotations"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": shared["spec"]}


def _spec(owner: Owner, settings: Settings, classes: Mapping[str, ClassRecord]) -> Object:
    model = mounted(owner.spec.model, allowed_file_prefixes=settings.allowed_file_prefixes)
    chosen = [classes[choice.class_] for choice in owner.spec.serve.accelerators]
    scratch, scratch_mount = security.scratch()
    shm = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    mounts = [model.mount, scratch_mount, {"name": "shm", "mountPath": "/dev/shm"}]
    selector = {key: value for accelerator in chosen for key, value in accelerator.node_selector}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "securityContext": security.pod_security(),
        "imagePullSecrets": settings.pull_secrets(),
        "terminationGracePeriodSeconds": _drain_seconds(owner) + GRACE_MARGIN_SECONDS,
        "tolerations": placement.stay_until_told(),
        "topologySpreadConstraints": placement.spread(names.component_selector(owner.name, names.REPLICA)),
        "containers": [_container(owner, settings, model, mounts, chosen)],
        "volumes": [model.volume, scratch, shm],
    } | ({"nodeSelector": selector} if selector else {})


def _container(
    owner: Owner, settings: Settings, model: MountedModel, mounts: list[Object], chosen: list[ClassRecord]
) -> Object:
    resources: Object = {"requests": {"cpu": "100m", "memory": "512Mi"}}
    if chosen:
        resources["limits"] = {accelerator.resource: "1" for accelerator in chosen}
        resources["requests"] = resources["requests"] | resources["limits"]
    return {
        "name": CONTAINER,
        "image": owner.spec.engine.image or settings.worker_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "coxswain_workers.replica"],
        "args": [*_arguments(owner, model, chosen), *owner.spec.engine.args],
        "env": [*_environment(owner), *model.env],
        "ports": [environment.port(names.PORT_NAME_STATUS, names.STATUS_PORT)],
        "startupProbe": environment.probe("/live", names.STATUS_PORT, period=2, failures=90),
        "readinessProbe": environment.probe("/ready", names.STATUS_PORT, period=1, failures=2),
        "livenessProbe": environment.probe("/live", names.STATUS_PORT, period=10, failures=3),
        "terminationMessagePath": names.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": resources,
        "securityContext": security.container_security(),
        "volumeMounts": mounts,
    }


def _arguments(owner: Owner, model: MountedModel, chosen: list[ClassRecord]) -> list[str]:
    resilience = owner.spec.resilience
    return [
        f"--gateways={owner.gateways_host()}:{names.REPLICA_PORT}",
        "--replica=$(POD_NAME)",
        f"--model={model.argument}",
        *(f"--accelerator={accelerator.name}" for accelerator in chosen),
        f"--replay={resilience.replay}",
        f"--on-drain={resilience.on_drain}",
        f"--drain-seconds={_drain_seconds(owner)}",
        f"--status-port={names.STATUS_PORT}",
    ]


def _environment(owner: Owner) -> list[Object]:
    return [
        environment.pod_name(),
        environment.home(),
        environment.token(owner.name),
        environment.secret(names.ENV_RAY_TOKEN, service=owner.name, key=names.SECRET_RAY_TOKEN),
        {"name": "RAY_AUTH_MODE", "value": "token"},
    ]


def _drain_seconds(owner: Owner) -> int:
    return math.ceil(durations.seconds(owner.spec.resilience.drain_timeout))
