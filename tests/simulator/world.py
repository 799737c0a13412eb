"""Small worlds, in which times can be worked out by hand: a prompt token takes 1 ms, a decode step 10 ms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from coxswain_scheduler.batching import Batch, check_batcher
from coxswain_scheduler.costs.polynomial import PolynomialTiming, Quadratic
from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.simulator.results import Result
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace, TraceRequest

TOKEN, STEP = 0.001, 0.010
TIMING = PolynomialTiming(Quadratic(0.0, TOKEN, 0.0), Quadratic(0.0, 0.0, STEP), 16384 * 64)
ENGINE = EngineSpec(timing=TIMING)
SLOW_LINK: dict[str, Any] = {"kv_bytes_per_token": 1, "link_bytes_per_second": 1000.0}
"""A token a millisecond."""

Doing = Callable[[Simulation], None]


def ask(id: int, prompt: int, output: int, *, at: float = 0.0, **more: Any) -> TraceRequest:  # noqa: A002
    return TraceRequest(id=id, arrival=at, prompt_tokens=prompt, output_tokens=output, **more)


class Written:
    """A policy that does what the test has written down: by request, where it goes, and where it is placed then."""

    period: float | None = None

    def __init__(
        self, to: Mapping[int, int] | None = None, place: Mapping[int, int] | None = None, *, rank: bool = False
    ) -> None:
        self.to, self.place, self.rank = to or {}, place or {}, rank
        self.told: list[tuple[str, int]] = []
        self.seen: dict[int, Any] = {}
        """Every engine that there ever was."""

    def begin(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seen.update(cluster.engines)
        self.told.append(("begin", 0))

    def arrived(self, request: Request) -> None:
        self.told.append(("arrived", request.id))
        engine = self.to.get(request.id, 0)
        if engine not in self.cluster.engines:
            engine = max(self.cluster.engines)
        rank = -float(request.priority) if self.rank else 0.0
        self.cluster.dispatch(request, engine, rank=rank, hold=request.id in self.place)

    def prefilled(self, request: Request) -> None:
        self.told.append(("prefilled", request.id))
        if (engine := self.place[request.id]) >= 0:
            self.cluster.place(request, engine)

    def ended(self, request: Request) -> None:
        self.told.append(("ended", request.id))

    def stepped(self, engine: Engine) -> None:
        pass

    def tick(self) -> None:
        pass

    def joined(self, engine: Engine) -> None:
        self.seen[engine.id] = engine
        self.told.append(("joined", engine.id))

    def lost(self, engine: int) -> None:
        self.told.append(("lost", engine))

    def explain(self, request: Request) -> str:
        return "written down"


def play(
    requests: Sequence[TraceRequest],
    policy: Written,
    *,
    engines: int = 2,
    engine: EngineSpec = ENGINE,
    doing: Mapping[float, Doing] | None = None,
    **setup: Any,
) -> tuple[Result, Simulation]:
    """Run it, with things done by hand at given times; afterwards no engine that lives may hold a block."""
    simulation = Simulation(Trace("hand", tuple(requests)), Setup(engines=(engine,) * engines, **setup), policy)
    for when, do in (doing or {}).items():
        simulation.calendar.at(when, _with(simulation, do))
    result = simulation.run()
    for one in policy.seen.values():
        check_batcher(one.batcher, Batch())
        assert one.silent or one.batcher.pool.free == one.total_blocks, "blocks leaked"
    return result, simulation


def _with(simulation: Simulation, do: Doing) -> Callable[[Any], None]:
    return lambda _: do(simulation)


def spec(**changes: Any) -> EngineSpec:
    """An engine that differs."""
    return replace(ENGINE, **changes)
