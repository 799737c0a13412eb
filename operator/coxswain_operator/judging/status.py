"""The status of a service as it is written, and whether it needs writing."""

from __future__ import annotations

from typing import Any

from coxswain_crds import durations, names
from coxswain_crds.llm_service import LLMServiceSpec, Objective
from coxswain_operator.cluster.records import ServiceRecord
from coxswain_operator.judging.conditions import judge
from coxswain_operator.judging.situation import Situation
from coxswain_operator.observing.measured import MIN_COUNT, Latencies
from coxswain_operator.observing.view import View

Object = dict[str, Any]


def status(
    service: ServiceRecord, situation: Situation, *, spec: LLMServiceSpec | None, decision: str | None, now: float
) -> Object:
    """Everything in `status`. What is not known now is repeated from before."""
    live = situation.live()
    before = service.status
    found: Object = {
        "observedGeneration": service.generation,
        "url": names.service_url(service.name, service.namespace),
        "replicas": len(live) + sum(1 for s in situation.lost()),
        "readyReplicas": sum(1 for s in live if s.ready),
        "updatedReplicas": len(situation.current()),
        "selector": names.replica_selector(service.name),
        "revision": _revision(situation, spec) or before.get("revision"),
        "measured": _measured(situation.view, spec) or before.get("measured"),
        "lastDecision": decision or before.get("lastDecision"),
        "conditions": judge(situation, now=now),
    }
    return {key: value for key, value in found.items() if value is not None}


def manifest(service: ServiceRecord, wanted: Object) -> Object:
    """What to apply to the status subresource."""
    metadata = {"name": service.name, "namespace": service.namespace}
    return {"apiVersion": names.API_VERSION, "kind": names.LLM_SERVICE, "metadata": metadata, "status": wanted}


def is_written(service: ServiceRecord, wanted: Object) -> bool:
    """Whether the status is already so: the order of the conditions aside."""
    before = dict(service.status)
    before["conditions"] = sorted(before.get("conditions") or [], key=lambda c: str(c.get("type")))
    return before == wanted


def _revision(situation: Situation, spec: LLMServiceSpec | None) -> str | None:
    if spec is not None and spec.model.revision:
        return spec.model.revision
    members = situation.view.members if situation.view else {}
    digests = {members[s.pod.name].weights_digest for s in situation.ready() if s.pod.name in members}
    return sorted(digests)[0][:12] if digests else None


def _measured(view: View | None, spec: LLMServiceSpec | None) -> Object | None:
    """Latencies, where enough was measured to tell; None when there is nothing to say."""
    if view is None or not view.answered:
        return None
    found: Object = {}
    for field, latencies in (("ttftP95", view.ttft), ("interTokenP95", view.inter_token)):
        value = latencies.percentile(95) if latencies and latencies.total() >= MIN_COUNT else None
        if value is not None:
            found[field] = durations.milliseconds(value)
    floor = view.step_floor_seconds()
    if floor is not None:
        found["stepFloor"] = durations.milliseconds(floor)
    shares = _shares(view, spec) if spec else []
    if shares:
        found["attainmentPercent"] = int(min(shares) * 100)
    return found or None


def _shares(view: View, spec: LLMServiceSpec) -> list[float]:
    pairs = ((spec.objectives.ttft, view.ttft), (spec.objectives.inter_token, view.inter_token))
    found = [_share(objective, latencies) for objective, latencies in pairs]
    return [share for share in found if share is not None]


def _share(objective: Objective | None, latencies: Latencies | None) -> float | None:
    if objective is None or latencies is None or latencies.total() < MIN_COUNT:
        return None
    return latencies.share_within(durations.seconds(objective.target))
