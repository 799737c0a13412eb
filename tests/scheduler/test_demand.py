"""How many engines the traffic of late takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.demand import Demand
from tests.scheduler.engines import fleet, packing, run


def test_two_engines_full_of_prefills_are_two_engines() -> None:
    demand = Demand(full=1.0)
    for second in range(200):
        demand.prefill(2.0, float(second))
    assert abs(demand.of_prefill(200.0) - 2.0) < 0.1
    assert abs(demand.prefill_seconds - 2.0) < 1e-9


def test_it_fades() -> None:
    demand = Demand(full=1.0)
    assert demand.prefill_seconds == 0.0
    demand.prefill(10.0, 0.0)
    assert demand.of_prefill(0.0) > 2 * demand.of_prefill(20.0) > 4 * demand.of_prefill(40.0) > 0.0


def test_decodes_take_the_engines_that_their_kv_would_fill() -> None:
    engines = fleet()
    at = packing(engines)
    run(engines, at, 0, tokens=32_000)
    run(engines, at, 1, tokens=16_000)
    assert Demand(full=1.0).of_decode(engines.engines.values()) == 0.75
    assert Demand(full=0.5).of_decode(engines.engines.values()) == 1.5


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 5.0)), max_size=50))
def test_it_is_never_more_than_what_came(prefills: list[tuple[float, float]]) -> None:
    demand, now = Demand(full=1.0), 0.0
    for seconds, gap in prefills:
        now += gap
        demand.prefill(seconds, now)
    assert 0.0 <= demand.of_prefill(now) <= sum(seconds for seconds, _ in prefills) / 20.0 + 1e-9
    assert demand.prefill_seconds <= max([seconds for seconds, _ in prefills], default=0.0) + 1e-9
