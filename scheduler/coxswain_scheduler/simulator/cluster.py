"""What a policy sees of the simulation and may do in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.simulator.engine import SimEngine
from coxswain_scheduler.simulator.migrations import Migration
from coxswain_scheduler.simulator.request import SimRequest, SimSequence

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.simulation import Simulation

TOO_LONG = "longer than the engine's KV"


class SimCluster:
    """Implements `interface.Cluster`."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._setup = simulation.setup
        self._calendar = simulation.calendar
        self._fleet = simulation.fleet
        self._caches = simulation.caches

    @property
    def now(self) -> float:
        """Seconds of virtual time."""
        return self._calendar.now

    @property
    def engines(self) -> Mapping[int, SimEngine]:
        """Those that live, as far as is known, and are not leaving."""
        return self._fleet.visible

    @property
    def objectives(self) -> Objectives:
        """What is asked for."""
        return self._setup.objectives

    @property
    def kv_bytes_per_token(self) -> int:
        """Of the model."""
        return self._setup.kv_bytes_per_token

    @property
    def link_bytes_per_second(self) -> float:
        """Between two engines."""
        return self._setup.link_bytes_per_second

    @property
    def can_pause(self) -> bool:
        """Its engines can."""
        return True

    def cached(self, request: SimRequest, engine: int) -> int:
        """Prompt tokens that `engine` is known to hold."""
        return self._caches.cached(request, self._fleet.living[engine])

    def holders(self, request: SimRequest) -> Mapping[int, int]:
        """The same for every engine that holds any."""
        return self._caches.holders(request)

    def dispatch(self, request: SimRequest, engine: int, *, rank: float = 0.0, hold: bool = False) -> None:
        """Queue it in an engine. What no KV of the engine could hold is refused, or fails if it has emitted tokens."""
        if request.at is not None or request.closed:
            raise ValueError(f"request {request.id} has been dispatched or has ended")
        one = self._fleet.visible[engine]
        sequence = SimSequence(request, block_size=one.block_size, rank=rank)
        if not one.batcher.fits(sequence.length):
            self._refuse(request, TOO_LONG)
            return
        request.at, request.sequence, request.hold, request.offered = one, sequence, hold, False
        one.batcher.add(sequence)
        one.cut()

    def place(self, request: SimRequest, engine: int) -> None:
        """Decode a request that is on hold. In the same engine its prefill has already given the first token."""
        source, sequence = request.at, request.sequence
        if source is None or sequence is None or not request.hold or sequence.aside != "Held":
            raise ValueError(f"request {request.id} is not on hold")
        request.hold = False
        if engine == source.id:
            sequence.aside = None
            source.between_steps(lambda: self._go_on(request, source, sequence))
            return
        target = self._fleet.visible[engine]
        if not target.batcher.fits(sequence.length):
            self._withdraw(request)
            self._refuse(request, TOO_LONG)
            return
        self._simulation.handovers.begin(request, target)

    def move(self, request: SimRequest, engine: int) -> None:
        """Migrate a decoding request live; one that only waits is queued there instead. Nothing for others."""
        source, sequence = request.at, request.sequence
        if source is None or sequence is None or source.id == engine or request.id in self._simulation.migrations:
            return
        target = self._fleet.visible[engine]
        if not target.batcher.fits(sequence.length):
            return
        if sequence.decodes:
            Migration(self._simulation, request, target).begin()
        elif sequence in source.batcher.waiting and not sequence.arriving:
            hold = request.hold
            self._withdraw(request)
            self.dispatch(request, engine, rank=sequence.rank, hold=hold)
            request.moves += 1
            self._simulation.moves += 1

    def take_back(self, request: SimRequest) -> None:
        """Withdraw it from its engine; nothing where it is in none."""
        if request.at is not None:
            self._withdraw(request)
            request.offered = True

    def pause(self, request: SimRequest) -> None:
        """Have a decoding request keep its KV and compute nothing, from the end of the step under way."""
        self._simulation.abandon_migration(request)
        one, sequence = request.at, request.sequence
        if one is not None and sequence is not None:
            one.between_steps(lambda: _halt(request, one, sequence))

    def resume(self, request: SimRequest) -> None:
        """Go on with a request that was paused."""
        one, sequence = request.at, request.sequence
        if one is not None and sequence is not None:
            one.between_steps(lambda: _resume(request, one, sequence))

    def shed(self, request: SimRequest, reason: str) -> None:
        """Refuse a request that has emitted nothing; its client may come back."""
        if request.emitted:
            raise ValueError(f"request {request.id} has emitted tokens: it can no longer be refused")
        self._withdraw(request)
        self._refuse(request, reason)

    def limit(self, engine: int, *, step_tokens: int) -> None:
        """Bound an engine's steps from the next one on."""
        self._fleet.living[engine].limit(step_tokens)

    def start(self, accelerator: str | None = None) -> None:
        """Ask for one more engine."""
        self._simulation.start_engine(self._fleet.kind(accelerator))

    def cancel(self) -> bool:
        """Give up the engine that was asked for last; its start-up so far has cost what it has."""
        return self._fleet.cancel()

    def stop(self, engine: int) -> None:
        """Have an engine leave when it is empty."""
        self._fleet.stop(engine)

    def _go_on(self, request: SimRequest, engine: SimEngine, sequence: SimSequence) -> None:
        """Between two steps: the token that its prefill gave is out, and the next ones follow."""
        if request.sequence is not sequence:
            return
        self._simulation.decode_here(engine, sequence)

    def _withdraw(self, request: SimRequest) -> None:
        one, sequence = request.at, request.sequence
        if one is None or sequence is None:
            return
        self._simulation.abandon_migration(request)
        one.withdraw(sequence)
        self._simulation.handovers.release(sequence)
        request.leave()
        self._fleet.leave_if_empty(one)

    def _refuse(self, request: SimRequest, reason: str) -> None:
        request.offered = False
        if request.emitted:
            self._simulation.fail(request, reason)
        elif request.retries < self._setup.retry_shed:
            request.retries += 1
            self._simulation.arrivals.again(request)
        else:
            request.shed = reason
            self._simulation.close(request)


def _halt(request: SimRequest, engine: SimEngine, sequence: SimSequence) -> None:
    if request.sequence is sequence and sequence.decodes:
        engine.halt(sequence)
        sequence.aside = "Paused"


def _resume(request: SimRequest, engine: SimEngine, sequence: SimSequence) -> None:
    if request.sequence is sequence and sequence.aside == "Paused":
        engine.resume(sequence)
        engine.cut()
