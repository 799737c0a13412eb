"""The event loop: virtual time, the engines, what happens to them, and the policy that is asked about it.

At one instant, first come the steps that end, then arrivals and other events in the order in which they were foreseen,
then engines begin their next steps: whatever reaches an engine at the very end of a step is in the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from itertools import count

from coxswain_scheduler.policies.interface import Objectives, Policy
from coxswain_scheduler.simulator.engine import SimEngine
from coxswain_scheduler.simulator.faults import Faults
from coxswain_scheduler.simulator.gaps import Gaps
from coxswain_scheduler.simulator.request import SimRequest, SimSequence, block_hashes
from coxswain_scheduler.simulator.results import Outcome, Result
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.trace import Trace
from coxswain_scheduler.simulator.transfers import Links, Migration

_STEP_ENDS, _HAPPENS = 0, 1
Callback = Callable[[], None]


class Simulation:
    """Implements `policies.interface.Cluster`, and `run`s the trace."""

    def __init__(self, trace: Trace, setup: Setup, policy: Policy) -> None:
        self.trace = trace
        self.setup = setup
        self.policy = policy
        self.now = 0.0
        self.gaps = Gaps()
        self.moves = 0
        self.fleet: dict[int, SimEngine] = {}
        """Every engine that lives, leaving ones too."""
        self._visible: dict[int, SimEngine] = {}
        self._ids = count()
        self._order = count()
        self._events: list[tuple[float, int, int, Callable[..., None], object]] = []
        self._starting: list[SimEngine] = []
        self._roles: dict[int, str] = {}
        self.role_changes = 0
        self._engine_seconds = 0.0
        self._gpu_seconds = 0.0
        self._preemptions = 0
        self._load: list[tuple[float, int, int, int]] = []
        self._sample_every = 1.0
        self.links = Links(setup)
        self.faults = Faults(self)
        self.migrations: dict[int, Migration] = {}
        self.requests = self._requests()
        self._open = len(self.requests)
        self._pending_after: dict[int, list[SimRequest]] = {}
        self._missing: dict[int, int] = {}

    # What a policy sees and may do

    @property
    def engines(self) -> Mapping[int, SimEngine]:
        """Those that live, as far as is known, and are not leaving."""
        return self._visible

    @property
    def objectives(self) -> Objectives:
        return self.setup.objectives

    @property
    def kv_bytes_per_token(self) -> int:
        return self.setup.kv_bytes_per_token

    @property
    def link_bytes_per_second(self) -> float:
        return self.setup.link_bytes_per_second

    def cached(self, request: SimRequest, engine: int) -> int:
        """Prompt tokens of `request` that `engine` holds; its last token is always computed."""
        one = self.fleet[engine]
        if not request.hashes:
            return 0
        size = one.spec.block_size
        return min(one.batcher.pool.match(request.hashes).count, (request.prompt_tokens - 1) // size) * size

    def holders(self, request: SimRequest) -> Mapping[int, int]:
        """The same for every engine that holds any."""
        return {engine: tokens for engine in self._visible if (tokens := self.cached(request, engine))}

    def dispatch(self, request: SimRequest, engine: int, *, rank: float = 0.0, hold: bool = False) -> None:
        if request.at is not None or request.ended is not None:
            raise ValueError(f"request {request.id} has been dispatched or has ended")
        one = self._visible[engine]
        sequence = SimSequence(request, block_size=one.spec.block_size, rank=rank)
        if not one.batcher.fits(request.prompt_tokens + request.output_tokens):
            self.shed(request, "longer than the engine's KV")
            return
        request.at, request.sequence, request.hold = one, sequence, hold
        one.batcher.add(sequence)
        one.cut()

    def place(self, request: SimRequest, engine: int) -> None:
        source, sequence = request.at, request.sequence
        if source is None or sequence is None or sequence.id not in source.batcher.aside:
            raise ValueError(f"request {request.id} is not on hold")
        request.hold = False
        if engine == source.id:
            sequence.computed = sequence.length - 1
            source.batcher.resume(sequence.id)
            source.begin_decoding(sequence)
            source.cut()
            return
        target = self._visible[engine]
        copy = SimSequence(request, block_size=target.spec.block_size, rank=sequence.rank)
        copy.arriving = sequence.length - 1
        request.at, request.sequence = target, copy
        self.links.bring(copy, source, sequence)
        target.batcher.add(copy)
        target.cut()

    def move(self, request: SimRequest, engine: int) -> None:
        if request.id not in self.migrations and request.at is not None and request.at.id != engine:
            Migration(self, request, self._visible[engine]).begin()

    def take_back(self, request: SimRequest) -> None:
        if request.at is None:
            return
        if migration := self.migrations.get(request.id):
            migration.abandon()
        self._withdraw(request)

    def pause(self, request: SimRequest) -> None:
        """Have a decoding request keep its KV and compute nothing, from the end of the step under way."""
        self._at_boundary(request, lambda one, sequence: one.halt(sequence))

    def resume(self, request: SimRequest) -> None:
        """Go on with a request that was paused."""
        one, sequence = request.at, request.sequence
        if one is not None and sequence is not None and sequence.id in one.batcher.aside:
            one.batcher.resume(sequence.id)
            one.begin_decoding(sequence)
            one.cut()

    def shed(self, request: SimRequest, reason: str) -> None:
        if request.emitted:
            raise ValueError(f"request {request.id} has emitted tokens: it can no longer be refused")
        self.take_back(request)
        if request.retries < self.setup.retry_shed:
            request.retries += 1
            self.at(self.now + self.setup.retry_after_seconds, self._arrive_again, request)
            return
        request.shed = reason
        self._close(request)

    def limit(self, engine: int, *, step_tokens: int) -> None:
        self.fleet[engine].limit(step_tokens)

    def start(self, accelerator: str | None = None) -> None:
        spec = self._kind(accelerator)
        began = self.now
        self.at(self.now + spec.startup_seconds, lambda _: self._join(spec, since=began), None)

    def stop(self, engine: int) -> None:
        one = self._visible.pop(engine)
        one.leaving = True
        self._leave_if_empty(one)

    # What engines and links say

    def at(self, when: float, call: Callable[..., None], argument: object) -> None:
        """Call later, in virtual time."""
        heappush(self._events, (when, _HAPPENS, next(self._order), call, argument))

    def start_soon(self, engine: SimEngine) -> None:
        """The engine has something to do: it starts when everything of this instant has happened."""
        self._starting.append(engine)

    def end_later(self, engine: SimEngine) -> None:
        """Its step will end then."""
        heappush(self._events, (engine.ends, _STEP_ENDS, next(self._order), self._step_ended, (engine, engine.version)))

    def fetch(self, engine: SimEngine, sequence: SimSequence) -> bool:
        """`sequence` has been given blocks: have its KV come. True where it is there at once."""
        if migration := self.migrations.get(sequence.request.id):
            return migration.admitted(sequence)
        ready = self.links.fetch(engine, sequence, self.now)
        if ready > self.now:
            self.at(ready, self._kv_arrived, (engine, sequence))
            return False
        self._take_over(engine, sequence)
        return True

    # The loop

    def run(self) -> Result:
        """Until every request has ended or was refused."""
        began = time.thread_time()
        for spec in self.setup.engines:
            self._join(spec, since=0.0, announce=False)
        self.policy.begin(self)
        for engine in self.fleet.values():
            engine.role_changes = 0
        self._foresee()
        events = self._events
        while self._open and (events or self._starting):
            if self._starting and (not events or events[0][0] > self.now):
                self._start_engines()
                continue
            when, _, _, call, argument = heappop(events)
            if when > self.setup.max_seconds:
                break
            self.now = when
            call(argument)
        return self._result(time.thread_time() - began)

    def _start_engines(self) -> None:
        starting, self._starting = self._starting, []
        for engine in starting:
            if not engine.busy and engine.id in self.fleet:
                engine.start()

    def _foresee(self) -> None:
        for request in self.requests:
            if request.trace.after:
                self._missing[request.id] = len(request.trace.after)
                for earlier in request.trace.after:
                    self._pending_after.setdefault(earlier, []).append(request)
        self._arrivals = iter([request for request in self.requests if not request.trace.after])
        self._next_arrival()
        self.faults.foresee()
        for when in self.setup.restarts:
            self.at(when, self._restart, None)
        if self.policy.period is not None:
            self.at(self.policy.period, self._tick, None)
        self.at(0.0, self._sample, None)

    def _next_arrival(self) -> None:
        if (request := next(self._arrivals, None)) is not None:
            self.at(request.arrival, self._arrive, request)

    def _arrive(self, request: SimRequest) -> None:
        self._next_arrival()
        self.policy.arrived(request)

    def _arrive_again(self, request: SimRequest) -> None:
        self.policy.arrived(request)

    def _tick(self, _: object) -> None:
        self.policy.tick()
        if self._open:
            assert self.policy.period is not None
            self.at(self.now + self.policy.period, self._tick, None)

    def _restart(self, _: object) -> None:
        for request in self.requests:
            request.note = None
        self.policy.begin(self)
        for request in self.requests:
            if request.arrival <= self.now and request.ended is None and request.shed is None:
                if request.at is None and not request.trace.after:
                    self.policy.arrived(request)
                elif request.hold and request.sequence is not None and request.at is not None:
                    if request.sequence.id in request.at.batcher.aside:
                        self.policy.prefilled(request)

    def _sample(self, _: object) -> None:
        running = sum(engine.running for engine in self.fleet.values())
        queued = sum(engine.waiting for engine in self.fleet.values())
        self._load.append((self.now, len(self.fleet), running, queued))
        self.at(self.now + self._sample_every, self._sample, None)

    def _step_ended(self, argument: tuple[SimEngine, int]) -> None:
        engine, version = argument
        if version != engine.version or engine.id not in self.fleet:
            return
        ended, held = engine.finish()
        for request in ended:
            request.settled = request.output_tokens
            request.ended = self.now
            self._close(request)
        for depart in engine.departures:
            depart()
        engine.departures.clear()
        self._starting.append(engine)
        policy = self.policy
        for request in ended:
            policy.ended(request)
        for request in held:
            policy.prefilled(request)
        if engine.leaving:
            self._leave_if_empty(engine)
        elif ended or held or engine.changed:
            policy.stepped(engine)

    # Parts

    def _requests(self) -> list[SimRequest]:
        size = self.setup.engines[0].block_size
        chunk, speedup = self.trace.chunk_tokens, self.setup.speedup
        return [
            SimRequest(
                one,
                arrival=one.arrival / speedup,
                hashes=block_hashes(one, chunk_tokens=chunk, block_size=size) if one.chunks else (),
            )
            for one in self.trace.requests
        ]

    def _take_over(self, engine: SimEngine, sequence: SimSequence) -> None:
        self.links.release(sequence)
        engine.batcher.resume(sequence.id)
        engine.begin_decoding(sequence)

    def _kv_arrived(self, argument: tuple[SimEngine, SimSequence]) -> None:
        engine, sequence = argument
        if sequence.request.sequence is sequence and engine.id in self.fleet:
            self._take_over(engine, sequence)
            engine.cut()

    def _at_boundary(self, request: SimRequest, do: Callable[[SimEngine, SimSequence], None]) -> None:
        one, sequence = request.at, request.sequence
        assert one is not None and sequence is not None

        def depart() -> None:
            if request.sequence is sequence and sequence.ends_at_step >= 0:
                do(one, sequence)

        if one.busy:
            one.departures.append(depart)
            one.cut()
        else:
            depart()

    def _withdraw(self, request: SimRequest) -> None:
        one, sequence = request.at, request.sequence
        assert one is not None and sequence is not None
        one.withdraw(sequence)
        self.links.release(sequence)
        request.settled = sequence.length - sequence.prompt_len
        request.at = request.sequence = None
        request.hold = False
        one.cut()

    def _close(self, request: SimRequest) -> None:
        request.at = request.sequence = None
        self._open -= 1
        if migration := self.migrations.get(request.id):
            migration.abandon()
        for later in self._pending_after.pop(request.id, ()):
            self._missing[later.id] -= 1
            if not self._missing[later.id]:
                later.arrival = self.now + later.trace.arrival / self.setup.speedup
                if later.trace.deadline is not None:
                    later.deadline = later.arrival + later.trace.deadline
                self.at(later.arrival, self._arrive_again, later)

    def _kind(self, accelerator: str | None) -> EngineSpec:
        kinds = {spec.accelerator: spec for spec in self.setup.engines} | dict(self.setup.kinds)
        return self.setup.engines[0] if accelerator is None else kinds[accelerator]

    def _join(self, spec: EngineSpec, *, since: float, announce: bool = True) -> None:
        engine = SimEngine(next(self._ids), spec, self)
        engine.since = since
        self.fleet[engine.id] = self._visible[engine.id] = engine
        if announce:
            self.policy.joined(engine)

    def _leave_if_empty(self, engine: SimEngine) -> None:
        if not any(True for _ in engine.batcher.sequences()):
            self.remove(engine)

    def remove(self, engine: SimEngine) -> None:
        """The engine is no more; account for it."""
        self._visible.pop(engine.id, None)
        if self.fleet.pop(engine.id, None) is not None:
            self._engine_seconds += self.now - engine.since
            self._gpu_seconds += (self.now - engine.since) * engine.spec.gpus
            self._preemptions += engine.preemptions
            self.role_changes += engine.role_changes

    def _result(self, cpu_s: float) -> Result:
        for engine in list(self.fleet.values()):
            self.remove(engine)
        outcomes = tuple(self._outcome(request) for request in self.requests)
        return Result(
            outcomes=outcomes,
            objectives=self.setup.objectives,
            gaps=self.gaps,
            moves=self.moves,
            role_changes=self.role_changes,
            preemptions=self._preemptions,
            engine_seconds=self._engine_seconds,
            gpu_seconds=self._gpu_seconds,
            virtual_s=self.now,
            cpu_s=cpu_s,
            load=tuple(self._load),
        )

    @staticmethod
    def _outcome(request: SimRequest) -> Outcome:
        return Outcome(
            id=request.id,
            arrival=request.arrival,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            priority=request.priority,
            tenant=request.tenant,
            workflow=request.workflow,
            cached=request.cached or 0,
            first_token=request.first_token,
            ended=request.ended,
            shed=request.shed,
            moves=request.moves,
            deadline=request.deadline,
        )


def replay(trace: Trace, setup: Setup, policy: Policy) -> Result:
    """Run `trace` on the cluster of `setup` under `policy`."""
    return Simulation(trace, setup, policy).run()
