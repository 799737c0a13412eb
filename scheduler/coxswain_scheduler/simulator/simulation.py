"""A trace, a cluster and a policy, in virtual time."""

from __future__ import annotations

import time
from typing import Final, cast

from coxswain_scheduler.interface import Cluster, Policy
from coxswain_scheduler.simulator.arrivals import Arrivals, requests_of
from coxswain_scheduler.simulator.caches import Caches
from coxswain_scheduler.simulator.calendar import Calendar
from coxswain_scheduler.simulator.cluster import TOO_LONG, SimCluster
from coxswain_scheduler.simulator.engine import SimEngine
from coxswain_scheduler.simulator.faults import Faults
from coxswain_scheduler.simulator.fleet import Fleet, Start
from coxswain_scheduler.simulator.gaps import Gaps
from coxswain_scheduler.simulator.handovers import Handovers
from coxswain_scheduler.simulator.links import Links
from coxswain_scheduler.simulator.migrations import Migration
from coxswain_scheduler.simulator.request import SimRequest, SimSequence
from coxswain_scheduler.simulator.results import Result
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.trace import Trace

_SAMPLE_SECONDS: Final = 1.0


class Simulation:
    """Has the policy decide, and things take their course."""

    def __init__(self, trace: Trace, setup: Setup, policy: Policy) -> None:
        self.setup = setup
        self.policy = policy
        self.calendar = Calendar(max_seconds=setup.max_seconds)
        self.gaps = Gaps()
        self.moves = 0
        self.links = Links(setup)
        self.fleet = Fleet(self)
        self.caches = Caches(self)
        self.arrivals = Arrivals(self)
        self.handovers = Handovers(self)
        self.migrations: dict[int, Migration] = {}
        """By the request that is on its way."""
        self.cluster = SimCluster(self)
        self._seen = cast(Cluster, self.cluster)  # policies hand back only requests that they were given
        self.requests = requests_of(trace, setup)
        self._open = len(self.requests)

    @property
    def now(self) -> float:
        """Seconds of virtual time."""
        return self.calendar.now

    def run(self) -> Result:
        """Until every request has ended, failed or was refused, or nothing happens any more, or time is up."""
        began = time.thread_time()
        self._begin()
        calendar = self.calendar
        while self._open and calendar.proceed():
            pass
        return self._result(time.thread_time() - began)

    def _begin(self) -> None:
        for spec in self.setup.engines:
            self.fleet.join(spec, since=0.0)
        self.policy.begin(self._seen)
        for engine in self.fleet.living.values():
            engine.role_changes = 0
        self.arrivals.foresee(self.requests)
        Faults(self).foresee()
        for when in self.setup.restarts:
            self.calendar.at(when, self._restart)
        if self.policy.period is not None:
            self.calendar.every(self.policy.period, self.policy.tick, first=self.policy.period)
        self.calendar.every(_SAMPLE_SECONDS, self.fleet.sample, first=0.0)

    # What others have happen

    def end_later(self, engine: SimEngine) -> None:
        """Its step will end when it says."""
        self.calendar.step_ends(engine.ends, self._step_ended, (engine, engine.version), turn=engine.turn)

    def offer(self, request: SimRequest) -> None:
        """Give a request to the policy."""
        if not request.closed:
            request.offered = True
            self.policy.arrived(request)

    def start_engine(self, spec: EngineSpec) -> None:
        """One more engine, after its start-up time."""
        self.calendar.at(self.now + spec.startup_seconds, self._started, self.fleet.ask(spec))

    def join(self, spec: EngineSpec, *, since: float) -> None:
        """One more engine, of which the policy is told."""
        engine = self.fleet.join(spec, since=since)
        self.policy.joined(engine)
        engine.role_changes = 0

    def decode_here(self, engine: SimEngine, sequence: SimSequence) -> None:
        """A request that was on hold decodes where it is: its prefill's token is out, which may have been the last."""
        request = sequence.request
        engine.decoding_now.emit(request, self.now)
        sequence.length += 1
        if sequence.length - sequence.prompt_len < min(request.output_tokens, engine.most_tokens - sequence.prompt_len):
            engine.resume(sequence)
            engine.cut()
            return
        engine.batcher.remove(sequence.id)
        self._complete(sequence)
        self.policy.ended(request)
        engine.cut()
        self.fleet.leave_if_empty(engine)

    def abandon_migration(self, request: SimRequest) -> None:
        """Nothing where it is not on its way."""
        if (migration := self.migrations.get(request.id)) is not None:
            migration.abandon()

    def fail(self, request: SimRequest, reason: str) -> None:
        """It ends before its end: its engine cannot hold it."""
        request.failed = reason
        self.close(request)

    def close(self, request: SimRequest) -> None:
        """It has ended, or never will."""
        self.abandon_migration(request)
        request.leave()
        request.offered = False
        self._open -= 1
        if request.ended is not None:
            self.arrivals.follow(request)
            return
        for later in self.arrivals.cancel(request):
            later.shed = f"request {request.id}, which it was to follow, was not answered"
            self.close(later)

    # What happens

    def _step_ended(self, argument: tuple[SimEngine, int]) -> None:
        engine, version = argument
        if version != engine.version or engine.gone:
            return
        complete, held = engine.finish()
        self.caches.hear(engine)
        for sequence in complete:
            self._complete(sequence)
        engine.depart()
        self.calendar.start_soon(engine)
        policy = self.policy
        for sequence in complete:
            policy.ended(sequence.request)
        for request in held:
            policy.prefilled(request)
        if engine.leaving:
            self.fleet.leave_if_empty(engine)
        elif complete or held or engine.changed:
            policy.stepped(engine)

    def _started(self, start: Start) -> None:
        if self.fleet.has_started(start):
            self.join(start.spec, since=start.since)

    def _complete(self, sequence: SimSequence) -> None:
        """Its engine is done with it: it has all of its tokens, or as many as the engine's KV holds."""
        request = sequence.request
        if request.emitted < request.output_tokens:
            self.fail(request, TOO_LONG)
        else:
            request.ended = self.now
            self.close(request)

    def _restart(self, _: object) -> None:
        """The scheduler forgets everything; engines go on with what it had paused, and clients are asked again."""
        for request in self.requests:
            request.note = None
        self.policy.begin(self._seen)
        for request in self.requests:
            if request.offered:
                self.policy.arrived(request)
            elif request.hold and request.sequence is not None and request.sequence.aside == "Held":
                self.policy.prefilled(request)
            else:
                self.cluster.resume(request)

    def _result(self, cpu_s: float) -> Result:
        self.fleet.close()
        return Result(
            outcomes=tuple(request.outcome() for request in self.requests),
            objectives=self.setup.objectives,
            gaps=self.gaps,
            moves=self.moves,
            role_changes=self.fleet.role_changes,
            preemptions=self.fleet.preemptions,
            engine_seconds=self.fleet.engine_seconds,
            gpu_seconds=self.fleet.gpu_seconds,
            virtual_s=self.now,
            cpu_s=cpu_s,
            load=tuple(self.fleet.load),
        )


def replay(trace: Trace, setup: Setup, policy: Policy) -> Result:
    """Run `trace` on the cluster of `setup` under `policy`."""
    return Simulation(trace, setup, policy).run()
