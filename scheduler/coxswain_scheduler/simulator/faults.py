"""What goes wrong: engines that die, slow down, or are cut off for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coxswain_scheduler.simulator.setup import Fault

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine
    from coxswain_scheduler.simulator.simulation import Simulation


class Faults:
    """Brings the faults of the setup about."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def foresee(self) -> None:
        """Put them into the calendar."""
        happen = {"Kill": self._break, "Partition": self._break, "Slow": self._slow}
        for fault in self._simulation.setup.faults:
            self._simulation.calendar.at(fault.at, happen[fault.kind], fault)

    def _slow(self, fault: Fault) -> None:
        if (engine := self._simulation.fleet.living.get(fault.engine)) is not None:
            calendar = self._simulation.calendar
            _set_speed(engine, fault.factor)
            calendar.at(calendar.now + fault.seconds, lambda _: _set_speed(engine, 1.0))

    def _break(self, fault: Fault) -> None:
        """The engine falls silent; what its streams have got by now is all they get from it."""
        calendar = self._simulation.calendar
        engine = self._simulation.fleet.living.get(fault.engine)
        if engine is None or engine.silent:
            return
        engine.fall_silent()
        found = calendar.now + fault.detection_seconds
        away = fault.seconds if fault.kind == "Partition" else engine.spec.startup_seconds
        calendar.at(found, lambda _: self._take_for_lost(engine))
        calendar.at(max(found, calendar.now + away), lambda _: self._replace(engine, found))

    def _replace(self, engine: SimEngine, since: float) -> None:
        if not engine.leaving:
            self._simulation.join(engine.spec, since=since)

    def _take_for_lost(self, engine: SimEngine) -> None:
        simulation = self._simulation
        if engine.gone:  # stopped meanwhile, when nothing was in it
            return
        simulation.fleet.remove(engine)
        for migration in list(simulation.migrations.values()):
            if migration.involves(engine):
                migration.abandon()
        requests = [request for request in engine.requests if request.at is engine]
        for request in requests:
            assert request.sequence is not None
            simulation.handovers.release(request.sequence)
            request.leave()
        simulation.policy.lost(engine.id)
        for request in requests:
            simulation.offer(request)


def _set_speed(engine: SimEngine, factor: float) -> None:
    """From the next step on."""

    def change() -> None:
        engine.slow = factor

    engine.between_steps(change)
