"""One pass over one service: look at everything, do what is missing, say how it stands.

Level-triggered: a pass depends on what is, not on what happened, so it may run any time and any number of times, and
one that fails half-way is simply run again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from coxswain_crds import names
from coxswain_crds.llm_service import Objectives
from coxswain_crds.reasons import Condition, Event, StartFailure
from coxswain_operator.cluster.api import Api, ApiError, NotFoundError
from coxswain_operator.cluster.cache import Cache, Key
from coxswain_operator.cluster.failures import Failure
from coxswain_operator.cluster.kinds import SERVICES
from coxswain_operator.cluster.records import ServiceRecord
from coxswain_operator.desired.gateway import REPLICAS as GATEWAYS
from coxswain_operator.judging.loss import GRACE_SECONDS, NodeWatch, undecided
from coxswain_operator.judging.plan import Fate
from coxswain_operator.judging.situation import Situation, Standing
from coxswain_operator.judging.status import is_written, manifest, status
from coxswain_operator.observing.view import Hearing, View, step_floor_seconds
from coxswain_operator.reconciling.acceptance import consider
from coxswain_operator.reconciling.events import Events
from coxswain_operator.reconciling.memory import Memory
from coxswain_operator.reconciling.offspring import Offspring, ready_pods
from coxswain_operator.reconciling.replicas import Replicas, planned, standings
from coxswain_operator.settings import Settings

log = logging.getLogger(__name__)

Object = dict[str, Any]

RETRY_TAKEN_SECONDS = 30.0


class Reconciler:
    """Passes over services. `view` gives the last word of a service's data plane."""

    def __init__(
        self,
        *,
        api: Api,
        cache: Cache,
        settings: Settings,
        view: Callable[[Key], View | None],
        events: Events,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._cache = cache
        self._settings = settings
        self._view = view
        self._events = events
        self._clock = clock
        self._wall = wall
        self._nodes = NodeWatch()
        self._nodes_state = -1
        self._offspring = Offspring(api, cache, settings)
        self._replicas = Replicas(api, cache, settings, events, clock)
        self._memories: dict[Key, Memory] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Returns after how many seconds time alone calls for another.

        Raises ApiError. One about a single object is raised at the end: the rest is done, and the status says so.
        """
        service = self._cache.services.get(key)
        if service is None or service.leaving:
            self._memories.pop(key, None)
            return None
        memory = self._remembered(key, service)
        view = self._view(key)
        floor = step_floor_seconds(view, service.status)
        consider(service, memory, cache=self._cache, settings=self._settings, step_floor_seconds=floor)
        failed = await self._ensure_offspring(key, memory)
        found = await self._tend_replicas(service, memory, view)
        await self._write_status(service, memory, view, found)
        if failed is not None:
            raise failed
        return self._again_after(found, memory, view)

    async def _ensure_offspring(self, key: Key, memory: Memory) -> ApiError | None:
        """What went wrong with one of the objects; raised at once when the API server does not answer at all."""
        memory.trouble = None
        if memory.acting is None:
            return None
        try:
            await self._offspring.ensure(key, memory, memory.acting)
        except ApiError as error:
            if not error.status:
                raise
            memory.trouble = Failure(StartFailure.INTERNAL_ERROR, str(error))
            return error
        return None

    def remembers(self, key: Key) -> bool:
        """Whether there is anything to forget about a service."""
        return key in self._memories

    def _remembered(self, key: Key, service: ServiceRecord) -> Memory:
        """The memory of this very object: one deleted and made again under the same name starts anew."""
        memory = self._memories.get(key)
        if memory is None or (memory.checked and memory.checked[0] != service.uid):
            memory = self._memories[key] = Memory()
        return memory

    async def _tend_replicas(self, service: ServiceRecord, memory: Memory, view: View | None) -> list[Standing]:
        found = self._standings(service, memory, view)
        if memory.acting is None:
            return found
        wanted = memory.acting.owner.spec.scaling.replicas
        todo = planned(found, wanted=wanted, view=view, memory=memory, now=self._clock())
        if not todo.create and not todo.delete:
            return found
        await self._replicas.carry_out(service, todo, found, memory, memory.acting)
        return self._standings(service, memory, view)

    def _standings(self, service: ServiceRecord, memory: Memory, view: View | None) -> list[Standing]:
        now = self._clock()
        self._observe_nodes(now)
        pods = [
            pod
            for pod in self._cache.pods((service.namespace, service.name))
            if pod.component == names.REPLICA and pod.owner == service.uid and pod.slot >= 0
        ]
        template = memory.acting.template if memory.acting else None
        return standings(pods, template=template, view=view, nodes=self._nodes, now=now)

    def _observe_nodes(self, now: float) -> None:
        if self._nodes_state != self._cache.nodes_state:
            self._nodes_state = self._cache.nodes_state
            self._nodes.observe({name: node.ready for name, node in self._cache.nodes.items()}, now=now)

    async def _write_status(
        self, service: ServiceRecord, memory: Memory, view: View | None, found: list[Standing]
    ) -> None:
        situation = self._situation(service, memory, view, found)
        spec = memory.acting.owner.spec if memory.acting else None
        wanted = status(service, situation, spec=spec, decision=memory.decision, now=self._wall())
        if is_written(service, wanted):
            return
        try:
            self._cache.put(SERVICES, await self._api.apply(SERVICES, manifest(service, wanted), subresource="status"))
        except NotFoundError:
            return  # It was deleted meanwhile; the watch will say so.
        await self._tell_changes(service, situation, wanted["conditions"])

    def _situation(self, service: ServiceRecord, memory: Memory, view: View | None, found: list[Standing]) -> Situation:
        key = (service.namespace, service.name)
        acting = memory.acting
        conditions = service.status.get("conditions") or []
        live = sum(1 for standing in found if standing.fate is Fate.LIVE)
        return Situation(
            generation=service.generation,
            acting_generation=acting.generation if acting else 0,
            errors=[*memory.errors, *memory.taken],
            wanted=acting.owner.spec.scaling.replicas if acting else live,
            objectives=acting.owner.spec.objectives if acting else Objectives(),
            standings=found,
            gateways_wanted=GATEWAYS,
            gateways_ready=ready_pods(self._cache.child(key, "Deployment", names.gateway_deployment(service.name))),
            coordinator_ready=ready_pods(self._cache.child(key, "Deployment", names.coordinator(service.name))) > 0,
            view=view,
            all_nodes_down=bool(self._cache.nodes) and self._nodes.all_down(),
            refusal=memory.refusal or memory.trouble,
            previous={condition["type"]: condition for condition in conditions},
        )

    async def _tell_changes(self, service: ServiceRecord, situation: Situation, conditions: list[Object]) -> None:
        """Events for what a user would want to see in `kubectl describe`."""
        after = {condition["type"]: condition for condition in conditions}
        ready, accepted = after[Condition.READY], after[Condition.ACCEPTED]
        if accepted["status"] == "False" and situation.previous.get(Condition.ACCEPTED) != accepted:
            await self._events.record(service, Event.SPEC_REFUSED, accepted["message"], warning=True)
        if ready["status"] == situation.was(Condition.READY):
            return
        if ready["status"] == "True":
            await self._events.record(service, Event.SERVING, ready["message"])
        elif situation.was(Condition.READY) == "True":
            note = f"{ready['reason']}: {ready['message']}"
            await self._events.record(service, Event.STOPPED_SERVING, note, warning=True)

    def _again_after(self, found: list[Standing], memory: Memory, view: View | None) -> float | None:
        now = self._clock()
        waits = [*memory.pauses.held(now=now).values(), *memory.homeless.waits(now=now)]
        if memory.taken:
            waits.append(RETRY_TAKEN_SECONDS)
        for standing in found:
            node = standing.pod.node
            hearing = view.hearing(standing.pod.name) if view else Hearing.UNKNOWN
            if standing.fate is Fate.LIVE and undecided(node=node, hearing=hearing, nodes=self._nodes, now=now):
                waits.append(GRACE_SECONDS - self._nodes.down_for(node, now=now))
        return max(0.05, min(waits)) if waits else None
