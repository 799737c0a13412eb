"""What components must agree on: API group, labels, ports, and what the objects of a service are called.

Standard library only, so that a worker or a gateway can import it without pydantic.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "coxswain.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

LLM_SERVICE: Final = "LLMService"
LLM_SERVICES: Final = "llmservices"
ACCELERATOR_CLASS: Final = "AcceleratorClass"
ACCELERATOR_CLASSES: Final = "acceleratorclasses"

FIELD_MANAGER: Final = "coxswain"
"""Field manager of every server-side apply of the operator."""
LEASE: Final = "coxswain-operator"
"""Name of the Lease, in the operator's own namespace, whose holder reconciles."""

MAX_NAME_LENGTH: Final = 40
"""Longest name of an LLMService: leaves room for every suffix below in the 63 characters of a label or a host name."""

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_SERVICE: Final = f"{GROUP}/service"
LABEL_ROLE: Final = f"{GROUP}/role"
LABEL_SLOT: Final = f"{GROUP}/slot"
LABEL_INCARNATION: Final = f"{GROUP}/incarnation"

ANNOTATION_SPEC_HASH: Final = f"{GROUP}/spec-hash"
"""On Pods and Pod templates: digest of what they were made from. A Pod whose hash is not the wanted one is replaced."""

APP: Final = "coxswain"
"""Value of `LABEL_NAME` and of `LABEL_MANAGED_BY`."""
GATEWAY: Final = "gateway"
COORDINATOR: Final = "coordinator"
REPLICA: Final = "replica"
OPERATOR: Final = "operator"
ROLE_SERVE: Final = "serve"

HTTP_PORT: Final = 8000
"""Gateways: the OpenAI API, `/health`, `/metrics`."""
REPLICA_PORT: Final = 8001
"""Gateways: replicas dial in here."""
STATUS_PORT: Final = 8002
"""Gateways, coordinator, replicas: probes and `/internal/status`."""
SERVICE_PORT: Final = 80
"""What clients see on the Service of a service; it leads to `HTTP_PORT`."""
OPERATOR_METRICS_PORT: Final = 8080
"""Operator: `/metrics`, `/live`, `/ready`."""
WEBHOOK_PORT: Final = 9443
WEBHOOK_PATH: Final = "/validate"

PORT_NAME_HTTP: Final = "http"
PORT_NAME_REPLICAS: Final = "replicas"
PORT_NAME_STATUS: Final = "status"

SECRET_TOKEN: Final = "token"  # noqa: S105
SECRET_RAY_TOKEN: Final = "ray-token"  # noqa: S105
ENV_TOKEN: Final = "COXSWAIN_TOKEN"  # noqa: S105
ENV_RAY_TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105

TERMINATION_LOG: Final = "/dev/termination-log"
"""Where a replica that cannot start writes `{"reason", "field", "message"}`."""


def token_secret(service: str) -> str:
    """Secret with the keys `SECRET_TOKEN` and `SECRET_RAY_TOKEN`."""
    return f"{service}-token"


def gateway_service(service: str) -> str:
    """Headless Service that replicas and the coordinator resolve to find every gateway."""
    return f"{service}-gateways"


def gateway_deployment(service: str) -> str:
    """Deployment of the gateways."""
    return f"{service}-gateway"


def coordinator(service: str) -> str:
    """Deployment and headless Service of the coordinator."""
    return f"{service}-coordinator"


def budget(service: str) -> str:
    """PodDisruptionBudget over exactly the replica Pods."""
    return service


def replica_pod(service: str, *, slot: int, incarnation: int, role: str = ROLE_SERVE) -> str:
    """Pod of one replica: `slot` says which of the wanted replicas it is, `incarnation` counts its Pods."""
    return f"{service}-{role}-{slot}-{incarnation}"


def service_url(service: str, namespace: str) -> str:
    """Where clients in the cluster reach a service."""
    return f"http://{service}.{namespace}.svc"


def common_labels(service: str, component: str) -> dict[str, str]:
    """Labels of every object of a service; `component_selector` selects by a subset of them."""
    return {
        LABEL_NAME: APP,
        LABEL_COMPONENT: component,
        LABEL_MANAGED_BY: APP,
        LABEL_SERVICE: service,
    }


def component_selector(service: str, component: str) -> dict[str, str]:
    """Labels that tell the Pods of one component of one service from all others; immutable in a Deployment."""
    return {LABEL_SERVICE: service, LABEL_COMPONENT: component}


def replica_labels(service: str, *, slot: int, incarnation: int, role: str = ROLE_SERVE) -> dict[str, str]:
    """Labels of one replica Pod."""
    return common_labels(service, REPLICA) | {
        LABEL_ROLE: role,
        LABEL_SLOT: str(slot),
        LABEL_INCARNATION: str(incarnation),
    }


def replica_selector(service: str) -> str:
    """Label selector of the replica Pods: `status.selector`, which the scale subresource hands to autoscalers."""
    return ",".join(f"{key}={value}" for key, value in sorted(component_selector(service, REPLICA).items()))
