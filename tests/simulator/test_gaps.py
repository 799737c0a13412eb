"""The histogram of times between tokens, and quantiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.simulator.gaps import Gaps
from coxswain_scheduler.simulator.results import quantile, quantiles
from tests.simulator.world import STEP, Written, ask, play


@given(st.lists(st.tuples(st.floats(1e-4, 100.0), st.integers(1, 50)), min_size=1), st.floats(0.0, 1.0))
def test_a_quantile_is_that_of_the_list_to_within_a_percent(gaps: list[tuple[float, int]], q: float) -> None:
    histogram = Gaps()
    every: list[float] = []
    for seconds, count in gaps:
        histogram.add(seconds, count)
        every += [seconds] * count
    every.sort()
    exact = next(value for index, value in enumerate(every, start=1) if index >= q * len(every))
    found = histogram.quantile(q)
    assert found is not None and exact * (1 - 1e-9) <= found <= exact * 1.0101


def test_without_gaps_there_is_no_quantile() -> None:
    assert Gaps().quantile(0.5) is None and quantile([], 0.5) is None


def test_quantiles_interpolate() -> None:
    assert quantiles([0.0, 1.0, 2.0, 3.0, 4.0]) == {"p50": 2.0, "p90": pytest.approx(3.6), "p99": pytest.approx(3.96)}


def test_a_stall_is_in_the_gaps_where_a_mean_hides_it() -> None:
    result, _ = play([ask(0, 1000, 50), ask(1, 500, 1, at=1.1)], Written())
    assert result.gaps.quantile(1.0) == pytest.approx(0.5 + STEP, rel=0.01)
    assert result.gaps.quantile(0.97) == pytest.approx(STEP, rel=0.01)
    mean = result.outcomes[0].inter_token
    assert mean is not None and mean == pytest.approx(STEP + 0.5 / 49)
