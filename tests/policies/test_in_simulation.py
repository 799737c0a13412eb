"""Every policy at work in the simulator: nothing is lost, whatever happens."""

from __future__ import annotations

from itertools import accumulate
from random import Random

import pytest

from coxswain_scheduler.costs.polynomial import PolynomialTiming
from coxswain_scheduler.policies.registry import create
from coxswain_scheduler.simulator.results import Result
from coxswain_scheduler.simulator.setup import EngineSpec, Fault, Setup
from coxswain_scheduler.simulator.simulation import replay
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from tests.policies.test_all import BASELINES

every = pytest.mark.parametrize(
    "name", [*BASELINES, "round-robin:prefill=2", "dynamo-kv:prefill=2", "llumnix:scale=true", "llumnix:reports=true"]
)


DOCUMENTS = 60


def trace(*, count: int, per_second: float, seed: int = 0) -> Trace:
    """Questions on documents, that is with common beginnings."""
    random = Random(seed)
    arrivals = accumulate(random.expovariate(per_second) for _ in range(count))
    requests = []
    for position, arrival in enumerate(arrivals):
        document, own = random.randrange(DOCUMENTS), random.randrange(1, 10)
        shared = tuple((document << 8) + part for part in range(document % 10))
        chunks = shared + tuple((position + DOCUMENTS << 8) + part for part in range(own))
        requests.append(
            TraceRequest(
                id=position,
                arrival=arrival,
                prompt_tokens=len(chunks) * 512 - random.randrange(500),
                output_tokens=random.randrange(1, 400),
                chunks=chunks,
                priority=int(random.random() < 0.1),
            )
        )
    return Trace("made", tuple(requests))


def run(
    name: str,
    timing: PolynomialTiming,
    *,
    blocks: int = 1024,
    faults: tuple[Fault, ...] = (),
    restarts: tuple[float, ...] = (),
) -> Result:
    """Four engines, well loaded, with KV for about ten requests each."""
    engine = EngineSpec(timing=timing, total_blocks=blocks, startup_seconds=5.0)
    setup = Setup(
        engines=(engine,) * 4, faults=faults, restarts=restarts, link_bytes_per_second=25e9, max_seconds=1000.0
    )
    return replay(trace(count=300, per_second=10.0), setup, create(name))


@every
def test_every_request_ends_or_is_refused(name: str, timing: PolynomialTiming) -> None:
    result = run(name, timing)
    assert all((outcome.ended is None) == (outcome.shed is not None) for outcome in result.outcomes)
    assert result.shed == 0 or name == "mooncake"


@every
def test_also_when_engines_die_and_the_scheduler_restarts(name: str, timing: PolynomialTiming) -> None:
    faults = (
        Fault(kind="Kill", engine=0, at=5.0),
        Fault(kind="Partition", engine=3, at=9.0, seconds=4.0),
        Fault(kind="Slow", engine=1, at=12.0, seconds=5.0, factor=3.0),
    )
    result = run(name, timing, faults=faults, restarts=(7.0, 15.0))
    assert all((outcome.ended is None) == (outcome.shed is not None) for outcome in result.outcomes)


@every
def test_the_same_seed_gives_the_same_run(name: str, timing: PolynomialTiming) -> None:
    assert run(name, timing).outcomes == run(name, timing).outcomes


def test_only_migration_moves_requests(timing: PolynomialTiming) -> None:
    assert run("llumnix", timing, blocks=320).moves > 0
    assert run("llumnix:migrate=false", timing, blocks=320).moves == 0


def test_a_prefix_aware_policy_reuses_more_than_round_robin(timing: PolynomialTiming) -> None:
    blind = run("round-robin", timing).prefix_reuse
    assert run("dynamo-kv", timing).prefix_reuse > 1.3 * blind
    assert run("sglang-cache-aware", timing).prefix_reuse > 1.3 * blind


def test_past_future_prevents_preemptions(timing: PolynomialTiming) -> None:
    ahead, blind = run("past-future", timing, blocks=320), run("least-requests", timing, blocks=320)
    assert ahead.preemptions < blind.preemptions / 2
