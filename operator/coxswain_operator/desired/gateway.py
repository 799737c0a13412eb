"""The gateways' Deployment: two, on different nodes where there are two, replaced one by one without a gap."""

from __future__ import annotations

from typing import Any, Final

from coxswain_crds import durations, names
from coxswain_crds.llm_service import Objectives
from coxswain_operator.desired import environment, placement
from coxswain_operator.desired.deployment import deployment
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.settings import Settings

Object = dict[str, Any]

REPLICAS: Final = 2
GRACE_SECONDS: Final = 3600
"""A leaving gateway ends once its streams have; this is how long they may take."""


def gateway(owner: Owner, settings: Settings) -> Object:
    """The Deployment."""
    selector = names.component_selector(owner.name, names.GATEWAY)
    return deployment(
        owner,
        settings,
        name=names.gateway_deployment(owner.name),
        component=names.GATEWAY,
        replicas=REPLICAS,
        pod={
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "affinity": placement.apart_from(selector),
            "topologySpreadConstraints": placement.spread(selector, per_revision=True),
        },
        container=_container(owner, settings),
    )


def _container(owner: Owner, settings: Settings) -> Object:
    return {
        "name": names.GATEWAY,
        "image": settings.gateway_image,
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
            *objectives(owner.spec.objectives),
        ],
        "ports": [
            environment.port(names.PORT_NAME_HTTP, names.HTTP_PORT),
            environment.port(names.PORT_NAME_REPLICAS, names.REPLICA_PORT),
            environment.port(names.PORT_NAME_STATUS, names.STATUS_PORT),
        ],
        "readinessProbe": environment.probe("/ready", names.STATUS_PORT, period=2, failures=2),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }


def objectives(objectives: Objectives) -> list[str]:
    """Those that are stated: a gateway without objectives refuses nobody for being late."""
    stated = {"ttft": objectives.ttft, "inter-token": objectives.inter_token}
    return [f"--{name}-seconds={durations.seconds(one.target):g}" for name, one in stated.items() if one is not None]
