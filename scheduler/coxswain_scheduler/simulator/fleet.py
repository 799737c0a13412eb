"""The engines: which there are, which a policy sees, when they come and go, and what they cost."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from coxswain_scheduler.simulator.engine import SimEngine
from coxswain_scheduler.simulator.setup import EngineSpec

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.simulation import Simulation


class Start:
    """An engine that was asked for: from then on it costs."""

    __slots__ = ("since", "spec")

    def __init__(self, spec: EngineSpec, *, since: float) -> None:
        self.spec = spec
        self.since = since


class Fleet:
    """Every engine, by its number. Numbers are not used again."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._numbers = count()
        self.living: dict[int, SimEngine] = {}
        """As far as is known; leaving ones too."""
        self.visible: dict[int, SimEngine] = {}
        """Those that are not leaving."""
        self._starting: list[Start] = []
        """In the order in which they were asked for."""
        self.engine_seconds = 0.0
        self.gpu_seconds = 0.0
        self.preemptions = 0
        self.role_changes = 0
        self.load: list[tuple[float, int, int, int]] = []

    def join(self, spec: EngineSpec, *, since: float) -> SimEngine:
        """One more engine, there from now on."""
        engine = SimEngine(next(self._numbers), spec, self._simulation, since=since)
        self.living[engine.id] = self.visible[engine.id] = engine
        return engine

    def ask(self, spec: EngineSpec) -> Start:
        """Ask for one more engine."""
        start = Start(spec, since=self._simulation.now)
        self._starting.append(start)
        return start

    def has_started(self, start: Start) -> bool:
        """Its start-up time is over: whether it is still wanted."""
        if start not in self._starting:
            return False
        self._starting.remove(start)
        return True

    def cancel(self) -> bool:
        """Give up the engine that was asked for last; False when none is starting."""
        if not self._starting:
            return False
        start = self._starting.pop()
        self._charge(start.spec, since=start.since)
        return True

    def kind(self, accelerator: str | None) -> EngineSpec:
        """What is started under that name; by default, what the first engine is."""
        setup = self._simulation.setup
        if accelerator is None:
            return setup.engines[0]
        return {spec.accelerator: spec for spec in setup.engines}.get(accelerator) or setup.kinds[accelerator]

    def stop(self, engine: int) -> None:
        """Have it leave when nothing is in it any more."""
        one = self.visible.pop(engine)
        one.leaving = True
        self.leave_if_empty(one)

    def leave_if_empty(self, engine: SimEngine) -> None:
        """A leaving engine goes with its last sequence."""
        if engine.leaving and not engine.gone and not any(True for _ in engine.batcher.sequences()):
            self.remove(engine)

    def remove(self, engine: SimEngine) -> None:
        """The engine is no more; account for it."""
        engine.gone = True
        self.visible.pop(engine.id, None)
        del self.living[engine.id]
        self._simulation.caches.forget(engine)
        self._charge(engine.spec, since=engine.since)
        self.preemptions += engine.preemptions
        self.role_changes += engine.role_changes

    def _charge(self, spec: EngineSpec, *, since: float) -> None:
        seconds = self._simulation.now - since
        self.engine_seconds += seconds
        self.gpu_seconds += seconds * spec.gpus

    def close(self) -> None:
        """Account for all."""
        for engine in list(self.living.values()):
            self.remove(engine)

    def sample(self) -> None:
        """Note the load."""
        running = sum(engine.running for engine in self.living.values())
        waiting = sum(engine.waiting + len(engine.batcher.aside) for engine in self.living.values())
        self.load.append((self._simulation.now, len(self.living), running, waiting))
