import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_protocol.status import Histogram
from coxswain_scheduler.latency import LatencyHistogram, cumulative, merged, quantile

seconds = st.lists(st.floats(0.002, 100), min_size=1, max_size=50)


def histogram(samples: list[float]) -> Histogram:
    latencies = LatencyHistogram()
    for sample in samples:
        latencies.record(sample)
    return latencies.status()


@given(seconds, st.floats(0.01, 1))
def test_quantiles_are_right_to_within_half_a_bucket(samples: list[float], q: float) -> None:
    found = quantile(histogram(samples), q)
    exact = next(s for i, s in enumerate(sorted(samples), start=1) if i >= q * len(samples) - 1e-9)
    assert found == pytest.approx(exact, rel=0.06)


@given(seconds, seconds)
def test_merging_is_recording_together(left: list[float], right: list[float]) -> None:
    assert merged([histogram(left), histogram(right)]) == histogram(left + right)


def test_nothing_has_no_quantile() -> None:
    assert quantile(merged([]), 0.5) is None


def test_different_buckets_do_not_merge() -> None:
    with pytest.raises(ValueError, match="different buckets"):
        merged([Histogram(), Histogram(ratio=2.0)])


def test_what_is_too_fast_to_tell_counts_below_the_floor() -> None:
    latencies = LatencyHistogram()
    for sample in (0.0, 1e-9, 0.001, 3.0):
        latencies.record(sample)
    assert latencies.count == 4
    assert cumulative(latencies.status(), [0.001, 1.0, 10.0]) == [3, 3, 4]
