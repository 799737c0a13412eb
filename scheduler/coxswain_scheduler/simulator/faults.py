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
            self._simulation.at(fault.at, happen[fault.kind], fault)

    def _slow(self, fault: Fault) -> None:
        if (engine := self._simulation.fleet.get(fault.engine)) is not None:
            self._set_speed(engine, fault.factor)
            self._simulation.at(self._simulation.now + fault.seconds, lambda _: self._set_speed(engine, 1.0), None)

    def _set_speed(self, engine: SimEngine, factor: float) -> None:
        """From the next step on."""

        def change() -> None:
            engine.slow = factor

        if engine.busy:
            engine.departures.append(change)
            engine.cut()
        else:
            change()

    def _break(self, fault: Fault) -> None:
        """The engine falls silent; what its streams have got by now is all they get from it."""
        simulation = self._simulation
        engine = simulation.fleet.get(fault.engine)
        if engine is None:
            return
        engine._settle_run()
        engine.version += 1
        engine.busy = True
        engine.silent = True
        simulation.at(simulation.now + fault.detection_seconds, lambda _: self._take_for_lost(engine), None)
        away = fault.seconds if fault.kind == "Partition" else engine.spec.startup_seconds
        since = simulation.now
        back = simulation.now + max(fault.detection_seconds, away)
        simulation.at(back, lambda _: simulation._join(engine.spec, since=since), None)

    def _take_for_lost(self, engine: SimEngine) -> None:
        simulation = self._simulation
        requests = [request for request in engine.requests if request.at is engine]
        simulation.remove(engine)
        for request in requests:
            if migration := simulation.migrations.get(request.id):
                migration.abandon()
            assert request.sequence is not None
            request.settled = request.sequence.length - request.prompt_tokens
            simulation.links.release(request.sequence)
            request.at = request.sequence = None
            request.hold = False
        simulation.policy.lost(engine.id)
        for request in requests:
            simulation.policy.arrived(request)
