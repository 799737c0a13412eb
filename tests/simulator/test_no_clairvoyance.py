"""No policy knows what only hindsight does: equal pasts give equal decisions.

Two traces are equal up to a time, in what arrives and in the tokens that come; after it other requests arrive, and
answers under way are longer or shorter. Whatever a policy decides up to that time must be the same, to the instant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, cast

import pytest

from coxswain_scheduler.costs.polynomial import PolynomialTiming
from coxswain_scheduler.interface import Cluster, Policy, Request
from coxswain_scheduler.policies.registry import POLICIES, create
from coxswain_scheduler.policies.round_robin import RoundRobin
from coxswain_scheduler.simulator.request import SimRequest
from coxswain_scheduler.simulator.setup import EngineSpec, Fault, Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from tests.simulate.conftest import MOCKER

ACTIONS = ("dispatch", "place", "move", "pause", "resume", "take_back", "shed", "limit", "start", "stop")
SPLIT = 12.0
"""Seconds up to which the traces are equal."""
WITH_OPTIONS = ("round-robin:prefill=1", "dynamo-kv:prefill=1", "llumnix:scale=true", "llumnix:reports=true")
ENGINE = EngineSpec(timing=PolynomialTiming.from_mapping(MOCKER), total_blocks=400, startup_seconds=3.0)

Log = list[tuple[Any, ...]]


def requests(seed: int, *, count: int = 700, seconds: float = 20.0) -> list[TraceRequest]:
    """Busy enough for queues and preemptions; conversations share beginnings."""
    random = Random(seed)
    made: list[TraceRequest] = []
    for place, arrival in enumerate(sorted(random.uniform(0.0, seconds) for _ in range(count))):
        talk = random.randrange(20)
        turns = random.randrange(1, 8)
        chunks = tuple(talk * 100 + turn for turn in range(turns))
        made.append(
            TraceRequest(
                id=place,
                arrival=arrival,
                prompt_tokens=turns * 512 - random.randrange(400),
                output_tokens=random.randrange(1, 300),
                chunks=chunks,
                priority=int(random.random() < 0.1),
                tenant=f"tenant {talk % 2}",
            )
        )
    return made


def run(policy: Policy, trace: list[TraceRequest]) -> tuple[Log, Simulation]:
    """Every decision with its time."""
    setup = Setup(
        engines=(ENGINE,) * 3,
        link_bytes_per_second=25e9,
        kv_event_lag_seconds=0.05,
        faults=(Fault(kind="Kill", engine=1, at=6.0), Fault(kind="Slow", engine=0, at=3.0, seconds=2.0, factor=2.0)),
        retry_shed=1,
        max_seconds=200.0,
    )
    watched = Watched(policy)
    simulation = Simulation(Trace("split", tuple(trace)), setup, cast(Policy, watched))
    simulation.run()
    return watched.log, simulation


class Watched:
    """A policy, and what it does to its cluster when."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.log: Log = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def begin(self, cluster: Cluster) -> None:
        self._policy.begin(cast(Cluster, _Cluster(cluster, self.log)))


class _Cluster:
    def __init__(self, cluster: Cluster, log: Log) -> None:
        self._cluster, self._log = cluster, log

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cluster, name)
        return self._logged(name, found) if name in ACTIONS else found

    def _logged(self, action: str, do: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **more: Any) -> None:
            shown = tuple(getattr(one, "id", one) for one in arguments)
            self._log.append((self._cluster.now, action, *shown, *sorted(more.items())))
            do(*arguments, **more)

        return call


def other_future(trace: list[TraceRequest], first: Simulation, seed: int) -> list[TraceRequest]:
    """Equal up to `SPLIT`: answers that had ended are as they were, the others another length that fits what came."""
    random = Random(seed)
    changed: list[TraceRequest] = []
    for one, seen in zip(trace, first.requests, strict=True):
        if one.arrival > SPLIT:
            changed.append(
                replace(
                    one,
                    arrival=random.uniform(SPLIT + 0.001, 25.0),
                    prompt_tokens=random.randrange(1, 4000),
                    chunks=(),
                    output_tokens=random.randrange(1, 500),
                )
            )
        elif seen.ended is not None and seen.ended <= SPLIT:
            changed.append(one)
        else:
            changed.append(replace(one, output_tokens=one.output_tokens + random.randrange(1, 400)))
    past = [one for one in changed if one.arrival <= SPLIT]
    future = sorted((one for one in changed if one.arrival > SPLIT), key=lambda one: one.arrival)
    return past + [replace(one, id=len(past) + place) for place, one in enumerate(future)]


def up_to(log: Log) -> Log:
    return [entry for entry in log if entry[0] <= SPLIT]


@pytest.mark.parametrize(("seed", "count"), [(1, 700), (2, 250)], ids=["overload", "load"])
@pytest.mark.parametrize("name", [*POLICIES, *WITH_OPTIONS])
def test_equal_pasts_give_equal_decisions(name: str, seed: int, count: int) -> None:
    trace = requests(seed, count=count)
    ours, first = run(create(name, seed=3), trace)
    theirs, second = run(create(name, seed=3), other_future(trace, first, seed + 100))
    assert len(up_to(ours)) > 100
    assert up_to(ours) == up_to(theirs)
    assert ours != theirs, "the futures differ"
    before = [(one.id, one.first_token) for one in first.requests if one.first_token and one.first_token <= SPLIT]
    after = [(one.id, one.first_token) for one in second.requests if one.first_token and one.first_token <= SPLIT]
    assert before == after


class Clairvoyant(RoundRobin):
    """Sends short answers to the first engine."""

    def admit(self, request: Request) -> bool:
        assert isinstance(request, SimRequest)
        choose = min if request.output_tokens < 150 else max
        self.cluster.dispatch(request, choose(self.cluster.engines))
        return True


def test_the_comparison_sees_a_policy_that_looks_ahead() -> None:
    trace = requests(1)
    ours, first = run(Clairvoyant(), trace)
    theirs, _ = run(Clairvoyant(), other_future(trace, first, 101))
    assert up_to(ours) != up_to(theirs)
