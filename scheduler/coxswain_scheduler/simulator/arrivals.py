"""Requests on their way to the policy: from the trace, again after they were shed, and as stages of workflows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from coxswain_scheduler.simulator.request import BlockNames, SimRequest
from coxswain_scheduler.simulator.setup import Setup
from coxswain_scheduler.simulator.trace import Trace

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.simulation import Simulation


class Arrivals:
    """Who is still to come."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._later: dict[int, list[SimRequest]] = {}
        self._missing: dict[int, int] = {}

    def foresee(self, requests: Iterable[SimRequest]) -> None:
        """Put those that come by themselves into the calendar, one at a time, and keep the others until they may."""
        first: list[SimRequest] = []
        for request in requests:
            if request.trace.after:
                self._missing[request.id] = len(request.trace.after)
                for earlier in request.trace.after:
                    self._later.setdefault(earlier, []).append(request)
            else:
                first.append(request)
        self._coming = iter(sorted(first, key=lambda request: request.arrival))
        self._next()

    def again(self, request: SimRequest) -> None:
        """A client whose request was shed comes back with it."""
        simulation = self._simulation
        simulation.calendar.at(simulation.now + simulation.setup.retry_after_seconds, self._arrive, request)

    def follow(self, request: SimRequest) -> None:
        """`request` has ended: the stages that waited for it alone arrive, as long after it as the trace says."""
        simulation = self._simulation
        for later in self._later.pop(request.id, ()):
            self._missing[later.id] -= 1
            if not self._missing[later.id] and later.shed is None:
                later.arrive_at(simulation.now + later.trace.arrival / simulation.setup.speedup)
                simulation.calendar.at(later.arrival, self._arrive, later)

    def cancel(self, request: SimRequest) -> list[SimRequest]:
        """`request` was refused or failed: the stages after it, which will never be sent."""
        never = [later for later in self._later.pop(request.id, ()) if later.shed is None]
        for later in never:
            later.arrive_at(self._simulation.now)
        return never

    def _next(self) -> None:
        if (request := next(self._coming, None)) is not None:
            self._simulation.calendar.at(request.arrival, self._arrive_first, request)

    def _arrive_first(self, request: SimRequest) -> None:
        self._next()
        self._arrive(request)

    def _arrive(self, request: SimRequest) -> None:
        self._simulation.offer(request)


def requests_of(trace: Trace, setup: Setup) -> list[SimRequest]:
    """The requests of a trace as the simulation knows them."""
    names = BlockNames(chunk_tokens=trace.chunk_tokens, block_size=setup.engines[0].block_size)
    return [SimRequest(one, arrival=one.arrival / setup.speedup, hashes=names.of(one)) for one in trace.requests]
