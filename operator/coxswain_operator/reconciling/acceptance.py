"""Whether a spec is acted on, and which one is: a refused spec leaves the one before it in force."""

from __future__ import annotations

from typing import Any

from coxswain_crds import names
from coxswain_crds.llm_service import LLMService
from coxswain_crds.reasons import Accepted
from coxswain_crds.validation import FieldError, errors
from coxswain_operator.cluster.cache import Cache
from coxswain_operator.cluster.records import ServiceRecord
from coxswain_operator.desired import replica
from coxswain_operator.desired.children import children
from coxswain_operator.desired.digest import digest_of
from coxswain_operator.desired.ownership import Owner
from coxswain_operator.reconciling.memory import Acting, Memory
from coxswain_operator.settings import Settings

Object = dict[str, Any]


def consider(
    service: ServiceRecord, memory: Memory, *, cache: Cache, settings: Settings, step_floor_seconds: float | None
) -> None:
    """Validate and, when the spec is accepted, make it the one to act on. Does nothing when nothing changed."""
    checked = (service.uid, service.generation, cache.classes_state, step_floor_seconds)
    if memory.checked == checked:
        return
    manifest = _manifest(service)
    memory.errors = errors(
        manifest,
        allowed_file_prefixes=settings.allowed_file_prefixes,
        accelerator_classes=cache.classes.keys(),
        step_floor_seconds=step_floor_seconds,
    )
    memory.checked = checked
    if not any(blocks(error) for error in memory.errors):
        memory.acting = _acting(service, manifest, cache, settings)


def blocks(error: FieldError) -> bool:
    """Whether a spec with this error is not acted on. An objective changes no Pod: one out of reach is reported."""
    return error.reason is not Accepted.OBJECTIVE_IMPOSSIBLE


def _manifest(service: ServiceRecord) -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.LLM_SERVICE,
        "metadata": {"name": service.name, "namespace": service.namespace, "uid": service.uid},
        "spec": service.spec,
    }


def _acting(service: ServiceRecord, manifest: Object, cache: Cache, settings: Settings) -> Acting:
    spec = LLMService.model_validate(manifest).spec
    owner = Owner(namespace=service.namespace, name=service.name, uid=service.uid, spec=spec)
    bodies = children(owner, settings)
    return Acting(
        owner=owner,
        generation=service.generation,
        children=tuple((body["kind"], body["metadata"]["name"], digest_of(body)) for body in bodies),
        template=digest_of(replica.template(owner, settings, cache.classes)),
    )
