"""Whatever a policy does and whatever breaks: every request ends exactly once, whole, or was refused; nothing leaks."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.batching import Batch, check_batcher
from coxswain_scheduler.interface import Cluster
from coxswain_scheduler.simulator.setup import Fault, Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace
from tests.simulator.world import ask, spec

WILD_SECONDS = 6.0
SHED = "at random"


class Wild:
    """Acts at random in every call for a while, and then only sees to it that everything ends."""

    period: float | None = 0.05

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.mine: dict[int, Any] = {}
        """Requests that have arrived and not ended."""
        self.held: dict[int, Any] = {}
        self.ends: Counter[int] = Counter()
        self.shed: set[int] = set()
        self.engines: dict[int, Any] = {}
        self.before: dict[int, int] = {}
        self.stuck: Counter[int] = Counter()
        self.last = 0.0

    def begin(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.held.clear()
        self.engines.update(cluster.engines)

    def joined(self, engine: Any) -> None:
        self.engines[engine.id] = engine
        self.act()

    def lost(self, engine: int) -> None:
        self.check()

    def arrived(self, request: Any) -> None:
        self.mine[request.id] = request
        self.held.pop(request.id, None)
        if self.cluster.now > WILD_SECONDS or self.random.random() < 0.8:
            self.send(request)
        self.act()

    def prefilled(self, request: Any) -> None:
        self.held[request.id] = request
        if self.random.random() < 0.7:
            self.place(request)
        self.act()

    def ended(self, request: Any) -> None:
        self.ends[request.id] += 1
        self.mine.pop(request.id)
        self.act()

    def stepped(self, engine: Any) -> None:
        self.act()

    def tick(self) -> None:
        self.check()
        if self.cluster.now > WILD_SECONDS:
            self.calm()
        else:
            self.act()

    def explain(self, request: Any) -> str:
        return ""

    def check(self) -> None:
        """Time goes forward and every pool adds up."""
        assert self.cluster.now >= self.last
        self.last = self.cluster.now
        for engine in self.engines.values():
            check_batcher(engine.batcher, Batch())

    def engine(self) -> int | None:
        return self.random.choice(list(self.cluster.engines)) if self.cluster.engines else None

    def send(self, request: Any) -> None:
        if request.engine is None and not request.closed and (engine := self.engine()) is not None:
            hold = self.cluster.now < WILD_SECONDS and self.random.random() < 0.5
            rank = float(self.random.randrange(2))
            self.cluster.dispatch(request, engine, hold=hold, rank=rank)

    def place(self, request: Any) -> None:
        if self.held.pop(request.id, None) and request.sequence and request.sequence.aside == "Held" and request.hold:
            if (engine := self.engine()) is not None:
                self.cluster.place(request, engine)
            else:
                self.held[request.id] = request

    def act(self) -> None:
        """Up to two random things, most of them to no purpose."""
        if self.cluster.now > WILD_SECONDS:
            return
        for _ in range(self.random.randrange(3)):
            if not self.mine:
                return
            request, engine = self.random.choice(list(self.mine.values())), self.engine()
            what = self.random.randrange(12)
            if what < 4 and engine is not None:
                self.cluster.move(request, engine)
            elif what == 4:
                self.cluster.pause(request)
            elif what == 5:
                self.cluster.resume(request)
            elif what == 6:
                self.cluster.take_back(request)
            elif what == 7:
                self.send(request) if request.engine is None else None
            elif what == 8 and self.held:
                self.place(self.random.choice(list(self.held.values())))
            elif what == 9 and not request.emitted and self.random.random() < 0.1:
                self.shed.add(request.id)
                del self.mine[request.id]
                self.cluster.shed(request, SHED)
                return
            elif what == 10 and engine is not None:
                self.cluster.limit(engine, step_tokens=self.random.choice([8, 64, 512]))
            elif what == 11 and self.random.random() < 0.1:
                if len(self.cluster.engines) > 2 and engine is not None:
                    self.cluster.stop(engine)
                else:
                    self.cluster.start()

    def calm(self) -> None:
        """Let everything end; what has not moved for a second is begun again."""
        for request in list(self.held.values()):
            self.place(request)
        for request in list(self.mine.values()):
            self.cluster.resume(request)
            key, emitted = request.id, request.emitted
            self.stuck[key] = self.stuck[key] + 1 if self.before.get(key) == emitted else 0
            self.before[key] = emitted
            if self.stuck[key] > 20 and self.random.random() < 0.1:
                self.cluster.take_back(request)
            self.send(request)


FAULTS = st.lists(
    st.builds(
        Fault,
        kind=st.sampled_from(["Kill", "Slow", "Partition"]),
        engine=st.integers(0, 3),
        at=st.floats(0.0, 5.0),
        seconds=st.floats(0.0, 2.0),
        factor=st.floats(0.5, 5.0),
        detection_seconds=st.floats(0.0, 0.5),
    ),
    max_size=3,
)
REQUESTS = st.lists(
    st.builds(
        lambda at, prompt, output, shared: (at, prompt, output, shared),
        st.floats(0.0, 4.0),
        st.integers(1, 60),
        st.integers(1, 60),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(
    requests=REQUESTS,
    faults=FAULTS,
    restarts=st.lists(st.floats(0.0, 5.0), max_size=2),
    blocks=st.integers(30, 60),
    seats=st.integers(1, 6),
    per_token=st.sampled_from([0, 1]),
    lag=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 1000),
)
def test_every_request_ends_once_and_whole_or_is_refused_and_no_block_leaks(
    requests: list[tuple[float, int, int, int]],
    faults: list[Fault],
    restarts: list[float],
    blocks: int,
    seats: int,
    per_token: int,
    lag: float | None,
    seed: int,
) -> None:
    trace = Trace(
        "any",
        tuple(
            ask(place, prompt, output, at=at, chunks=tuple(shared * 1000 + part for part in range(-(-prompt // 8))))
            for place, (at, prompt, output, shared) in enumerate(requests)
        ),
        chunk_tokens=8,
    )
    engine = spec(total_blocks=blocks, block_size=4, max_num_seqs=seats, step_tokens=16, startup_seconds=0.3)
    setup = Setup(
        engines=(engine,) * 2,
        kv_bytes_per_token=per_token,
        link_bytes_per_second=200.0,
        faults=tuple(faults),
        restarts=tuple(restarts),
        kv_event_lag_seconds=lag,
        max_seconds=60.0,
    )
    policy = Wild(seed)
    simulation = Simulation(trace, setup, policy)
    result = simulation.run()
    policy.check()
    for outcome in result.outcomes:
        if outcome.id in policy.shed:
            assert outcome.shed == SHED and outcome.emitted == 0 and not policy.ends[outcome.id]
        else:
            assert outcome.ended is not None and outcome.emitted == outcome.output_tokens, outcome
            assert policy.ends[outcome.id] == 1
            assert outcome.first_token is not None and outcome.arrival < outcome.first_token <= outcome.ended
    assert not simulation.migrations
    for one in policy.engines.values():
        assert one.silent or one.batcher.pool.free == blocks
        assert one.silent or (not one.decoding_now and one.decoding_now.context == 0)
