"""The coordinator's Deployment: one Pod, which may be missed for a while, rather not beside a gateway."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names
from coxswain_crds.llm_service import Objectives
from coxswain_operator.desired import environment, gateway, placement
from coxswain_operator.desired.deployment import deployment
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.settings import Settings

Object = dict[str, Any]


def coordinator(owner: Owner, settings: Settings) -> Object:
    """The Deployment."""
    return deployment(
        owner,
        settings,
        name=names.coordinator(owner.name),
        component=names.COORDINATOR,
        replicas=1,
        pod={
            "terminationGracePeriodSeconds": 10,
            "affinity": placement.apart_from(names.component_selector(owner.name, names.GATEWAY)),
        },
        container=_container(owner, settings),
    )


def _container(owner: Owner, settings: Settings) -> Object:
    return {
        "name": names.COORDINATOR,
        "image": settings.worker_image,
        "command": ["python", "-m", "coxswain_workers.coordinator"],
        "args": [
            f"--service={owner.name}",
            f"--gateways={owner.gateways_host()}:{names.STATUS_PORT}",
            f"--status-port={names.STATUS_PORT}",
            *gateway.objectives(owner.spec.objectives),
            *_attainment(owner.spec.objectives),
        ],
        "ports": [environment.port(names.PORT_NAME_STATUS, names.STATUS_PORT)],
        "readinessProbe": environment.probe("/ready", names.STATUS_PORT, period=2, failures=2),
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
    }


def _attainment(objectives: Objectives) -> list[str]:
    """The stricter of the percentiles that are stated."""
    percentiles = [one.percentile for one in (objectives.ttft, objectives.inter_token) if one is not None]
    return [f"--attainment={max(percentiles) / 100:g}"] if percentiles else []
