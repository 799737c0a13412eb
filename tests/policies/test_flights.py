"""What a gateway counts of requests in flight."""

from __future__ import annotations

import pytest

from coxswain_scheduler.policies.flights import Flights
from tests.policies.fleet import Ask


def test_counts_prompts_until_their_first_token() -> None:
    flights, first, second = Flights(), Ask(1, 300), Ask(2, 500)
    flights.add(first, 0, tokens=300, seconds=3.0, now=10.0)
    flights.add(second, 0, tokens=400, seconds=4.0, now=11.0)
    assert (flights[0].count, flights[0].tokens, flights[0].context) == (2, 700, 800)
    first.emitted = 1
    flights.settle(0, now=13.0)
    assert (flights[0].count, flights[0].tokens, flights[0].context) == (2, 400, 800)


def test_the_queue_shrinks_as_its_head_is_computed() -> None:
    flights, first, second = Flights(), Ask(1, 300), Ask(2, 500)
    assert flights[0].queue_seconds(9.0) == 0.0
    flights.add(first, 0, tokens=300, seconds=3.0, now=10.0)
    flights.add(second, 0, tokens=400, seconds=4.0, now=11.0)
    assert flights[0].queue_seconds(11.0) == pytest.approx(6.0)
    assert flights[0].queue_seconds(99.0) == pytest.approx(4.0)  # the head is late; the second is still to come
    first.emitted = 1
    flights.settle(0, now=14.0)
    assert flights[0].queue_seconds(15.0) == pytest.approx(3.0)


def test_a_request_that_had_emitted_before_is_prefilled_by_its_next_token() -> None:
    flights, replayed = Flights(), Ask(1, 300, emitted=7)
    flights.add(replayed, 0, tokens=307, now=0.0)
    flights.settle(0, now=1.0)
    assert flights[0].tokens == 307
    replayed.emitted = 8
    flights.settle(0, now=2.0)
    assert flights[0].tokens == 0


def test_a_lost_engine_takes_its_flights_along() -> None:
    flights, ask = Flights(), Ask(1, 300)
    flights.add(ask, 0, tokens=300, now=0.0)
    flights.drop(0)
    assert flights.get(ask) is None
    assert not flights.remove(ask, now=1.0)
    assert flights[0].count == 0
