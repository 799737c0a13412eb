import numpy as np
import pytest

from coxswain_scheduler.autoscaling.hindsight import Hindsight, hindsight
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from tests.autoscaling.flows import OBJECTIVES, SHAPE


def trace(rates: list[float], *, window: float = 60.0, output: int = 300) -> Trace:
    arrivals = [i * window + k / rate for i, rate in enumerate(rates) for k in range(int(rate * window))]
    return Trace(
        "made",
        tuple(
            TraceRequest(id=n, arrival=arrival, prompt_tokens=400, output_tokens=output)
            for n, arrival in enumerate(arrivals)
        ),
    )


def test_each_window_needs_its_load_by_littles_law() -> None:
    found = hindsight(trace([10.0] * 10 + [60.0] * 10), SHAPE, OBJECTIVES)
    low, high = found.needed[5], found.needed[-2]
    assert high == pytest.approx(6 * low, abs=3)
    assert found.static() == found.needed.max()


def test_clairvoyance_pays_for_the_startup_and_keeps_over_short_gaps() -> None:
    seen = Hindsight(window_seconds=60.0, needed=np.array([2, 2, 5, 2, 2, 5, 2, 2, 2, 2]))
    assert seen.clairvoyant(120.0).tolist() == [5, 5, 5, 5, 5, 5, 2, 2, 2, 2]
    assert seen.clairvoyant(0.0).tolist() == seen.needed.tolist()


def test_the_static_count_is_that_of_the_worst_window_or_a_percentile() -> None:
    seen = Hindsight(window_seconds=60.0, needed=np.array([1] * 95 + [7] * 4 + [30]))
    assert seen.static() == 30
    assert seen.static(98.0) == 7


def test_objectives_that_no_count_meets_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot meet the objectives"):
        hindsight(trace([1.0]), SHAPE, Objectives(inter_token=0.001))
