"""Percentiles over the last minutes."""

from __future__ import annotations

import pytest

from coxswain_operator.observing.measured import MIN_COUNT, WINDOW_SECONDS, Latencies, Window
from coxswain_protocol.status import Histogram


def histogram(**counts: int) -> Histogram:
    return Histogram(floor=1.0, ratio=2.0, counts={int(bucket[1:]): count for bucket, count in counts.items()})


def test_a_percentile_is_the_upper_end_of_its_bucket() -> None:
    latencies = Latencies(1.0, 2.0, {0: 90, 3: 10})
    assert latencies.percentile(90) == 2.0
    assert latencies.percentile(95) == 16.0
    assert latencies.share_within(2.0) == 0.9
    assert latencies.share_within(16.0) == 1.0


def test_nothing_measured_is_nothing_known() -> None:
    assert Latencies(1.0, 2.0, {}).percentile(95) is None
    assert Latencies(1.0, 2.0, {}).share_within(1.0) is None


def test_what_a_gateway_counted_before_it_was_first_seen_does_not_count() -> None:
    window = Window()
    window.add([("a", histogram(b0=1000))], now=0.0)
    assert window.latencies().total() == 0
    window.add([("a", histogram(b0=1000, b2=5))], now=1.0)
    assert window.latencies().counts == {2: 5}


def test_gateways_add_up_and_a_restarted_one_starts_at_nothing() -> None:
    window = Window()
    window.add([("a", histogram(b0=10)), ("b", histogram(b0=10))], now=0.0)
    window.add([("a", histogram(b0=12)), ("b", histogram(b0=3))], now=1.0)
    assert window.latencies().counts == {0: 2 + 3}


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = Window()
    window.add([("a", histogram())], now=0.0)
    window.add([("a", histogram(b1=7))], now=10.0)
    window.add([("a", histogram(b1=8))], now=WINDOW_SECONDS)
    assert window.latencies().total() == 8
    window.add([("a", histogram(b1=8))], now=WINDOW_SECONDS + 20.0)
    assert window.latencies().total() == 1


def test_the_minimum_is_enough_for_a_percentile() -> None:
    assert pytest.approx(Latencies(1.0, 2.0, {0: MIN_COUNT}).percentile(95)) == 2.0
