"""Replica Pods of one service: what became of each, and carrying out what the plan says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from coxswain_crds import names
from coxswain_crds.reasons import Event, StartFailure
from coxswain_operator import metrics
from coxswain_operator.cluster.api import Api, ConflictError, NotFoundError, RefusedError
from coxswain_operator.cluster.cache import Cache
from coxswain_operator.cluster.failures import Failure
from coxswain_operator.cluster.kinds import PODS
from coxswain_operator.cluster.records import PodRecord, ServiceRecord
from coxswain_operator.desired import replica
from coxswain_operator.judging.loss import NodeWatch, is_lost
from coxswain_operator.judging.plan import Cause, Creation, Deletion, Fate, Plan, Replica, plan
from coxswain_operator.judging.situation import Standing
from coxswain_operator.observing.view import Hearing, View
from coxswain_operator.reconciling.events import Events
from coxswain_operator.reconciling.memory import Acting, Memory
from coxswain_operator.settings import Settings

log = logging.getLogger(__name__)


def standings(
    pods: Sequence[PodRecord], *, template: str | None, view: View | None, nodes: NodeWatch, now: float
) -> list[Standing]:
    """What became of each replica Pod. Without a `template` to compare with, all are as they should be."""
    return [
        Standing(
            pod=pod,
            fate=_fate(pod, view, nodes, now),
            current=template is None or pod.digest == template,
            ready=_takes_requests(pod, view),
        )
        for pod in pods
    ]


def _fate(pod: PodRecord, view: View | None, nodes: NodeWatch, now: float) -> Fate:
    if pod.leaving:
        return Fate.LEAVING
    if pod.phase in ("Failed", "Succeeded"):
        return Fate.FAILED
    hearing = view.hearing(pod.name) if view else Hearing.UNKNOWN
    return Fate.LOST if is_lost(node=pod.node, hearing=hearing, nodes=nodes, now=now) else Fate.LIVE


def _takes_requests(pod: PodRecord, view: View | None) -> bool:
    if view is not None and view.answered:
        return view.is_ready(pod.name)
    return pod.ready


def planned(found: Sequence[Standing], *, wanted: int, view: View | None, memory: Memory, now: float) -> Plan:
    """What to do next about the replicas."""
    for standing in found:
        slot, incarnation = standing.pod.slot, standing.pod.incarnation
        memory.incarnations[slot] = max(memory.incarnations.get(slot, 0), incarnation)
    memory.homeless.observe((s.pod.name for s in found if _is_homeless(s)), now=now)
    homeless = memory.homeless.for_good(now=now)
    return plan(
        [_as_replica(standing, view, homeless) for standing in found],
        wanted=wanted,
        departures=view.departures if view else (),
        held=memory.pauses.held(now=now),
        used=memory.incarnations,
    )


def _is_homeless(standing: Standing) -> bool:
    failure = standing.pod.failure
    return standing.fate is Fate.LIVE and failure is not None and failure.reason == StartFailure.UNSCHEDULABLE


def _as_replica(standing: Standing, view: View | None, homeless: Collection[str]) -> Replica:
    pod = standing.pod
    heard = view is not None and view.hearing(pod.name) is Hearing.BEATING
    return Replica(
        name=pod.name,
        slot=pod.slot,
        incarnation=pod.incarnation,
        current=standing.current,
        fate=standing.fate,
        serving=heard or pod.ready,
        # Until the gateways have been asked, nobody is deleted because of a successor that they may not know yet.
        settled=pod.ready and view is not None and standing.ready,
        homeless=pod.name in homeless,
    )


class Replicas:
    """Makes and deletes Pods. Never changes one."""

    def __init__(self, api: Api, cache: Cache, settings: Settings, events: Events, clock: Callable[[], float]) -> None:
        self._api = api
        self._cache = cache
        self._settings = settings
        self._events = events
        self._clock = clock

    async def carry_out(
        self, service: ServiceRecord, todo: Plan, found: Sequence[Standing], memory: Memory, acting: Acting
    ) -> None:
        """Delete first: whoever is deleted has a successor or serves nobody, and then there are never too many.

        Raises ApiError; what was done until then stays done.
        """
        memory.refusal = None
        for standing in found:
            if standing.ready and standing.fate is Fate.LIVE:
                memory.pauses.worked(standing.pod.slot)
        pods = {standing.pod.name: standing.pod for standing in found}
        for deletion in todo.delete:
            await self._delete(service, pods[deletion.name], deletion, memory)
        if todo.create:
            await self._create(service, todo.create, found, memory, acting)

    async def _create(
        self,
        service: ServiceRecord,
        creations: Sequence[Creation],
        found: Sequence[Standing],
        memory: Memory,
        acting: Acting,
    ) -> None:
        template = replica.template(acting.owner, self._settings, self._cache.classes)
        made: list[str] = []
        conflict: ConflictError | None = None
        for creation in creations:
            body = replica.pod(acting.owner, template, slot=creation.slot, incarnation=creation.incarnation)
            memory.incarnations[creation.slot] = creation.incarnation
            try:
                self._cache.put(PODS, await self._api.create(PODS, body))
            except ConflictError as error:
                conflict = error  # A Pod of that name is still there; the next pass takes the next incarnation.
                continue
            except RefusedError as error:
                memory.refusal = Failure(StartFailure.POD_REFUSED, error.message)
                memory.pauses.failed(creation.slot, now=self._clock())
                break
            made.append(body["metadata"]["name"])
            metrics.REPLICAS_CREATED.inc()
        if made:
            await self._tell_made(service, made, [c for c in creations if c.replaces], found, memory)
        if memory.refusal:
            await self._events.record(service, Event.REPLICA_FAILED, memory.refusal.message, warning=True)
        if conflict:
            raise conflict

    async def _tell_made(
        self,
        service: ServiceRecord,
        made: list[str],
        replacing: Sequence[Creation],
        found: Sequence[Standing],
        memory: Memory,
    ) -> None:
        memory.decision = f"made {', '.join(made[:8])}" + (f" and {len(made) - 8} more" if len(made) > 8 else "")
        slots = {creation.slot for creation in replacing}
        lost = [s for s in found if s.pod.slot in slots and s.fate in (Fate.LOST, Fate.FAILED, Fate.LEAVING)]
        if lost:
            memory.decision += " in place of " + ", ".join(f"{s.pod.name} ({_what_happened(s)})" for s in lost[:8])
            await self._events.record(service, Event.REPLICA_LOST, memory.decision, warning=True)
        else:
            await self._events.record(service, Event.REPLICA_CREATED, memory.decision)
        log.info("%s", memory.decision, extra={"service": f"{service.namespace}/{service.name}"})

    async def _delete(self, service: ServiceRecord, pod: PodRecord, deletion: Deletion, memory: Memory) -> None:
        try:
            answer = await self._api.delete(PODS, namespace=pod.namespace, name=pod.name, uid=pod.uid)
        except (NotFoundError, ConflictError):
            self._cache.forget_pod(pod)
            return
        if answer.get("kind") == PODS.kind and names.LABEL_SERVICE in (answer["metadata"].get("labels") or {}):
            self._cache.put(PODS, answer)
        if deletion.cause is Cause.FAILED:
            memory.pauses.failed(pod.slot, now=self._clock())
        memory.decision = f"deleted {pod.name}: {_WHY[deletion.cause]}"
        metrics.REPLICAS_DELETED.labels(cause=deletion.cause.value).inc()
        log.info("%s", memory.decision, extra={"service": f"{service.namespace}/{service.name}", "replica": pod.name})
        await self._events.record(service, Event.REPLICA_REMOVED, memory.decision)


def _what_happened(standing: Standing) -> str:
    if standing.fate is Fate.LOST:
        return f"node {standing.pod.node} is down and no gateway hears it"
    return "it failed" if standing.fate is Fate.FAILED else "it is leaving"


_WHY = {
    Cause.SCALE_DOWN: "fewer replicas are wanted",
    Cause.ROLL_OUT: "the spec changed",
    Cause.SURPLUS: "its slot has another replica that serves",
    Cause.LOST: "it was lost and is replaced",
    Cause.FAILED: "its Pod failed",
}
