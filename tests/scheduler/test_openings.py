"""A short list of many seats: whose turn comes first, and that it loses nothing to a look at all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.costs.polynomial import PolynomialTiming
from coxswain_scheduler.openings import Opening, Openings
from coxswain_scheduler.prefilling import Choice, Choosing, Seats
from coxswain_scheduler.queueing import Job
from tests.policies.conftest import DECODE, PREFILL
from tests.policies.fleet import BLOCK, Ask, Fleet

SEATS = 40
HOLDERS = 4


def test_of_the_ready_the_least_toll_and_of_the_others_the_soonest() -> None:
    openings: Openings[str] = Openings()
    put: list[Opening[str]] = []
    for name, (ready_at, toll) in enumerate([(0.0, 0.3), (0.0, 0.1), (5.0, 0.0), (4.0, 0.2), (0.0, 0.2), (0.0, 0.4)]):
        put.append(openings.put(name, "abcdef"[name], kind="gpu", ready_at=ready_at, toll=toll, now=1.0))
    openings.put(9, "other", kind="slow", ready_at=0.0, toll=0.9, now=1.0)
    assert openings.first(1.0) == ["b", "e", "a", "d", "other"]
    assert openings.waits(1.0) == pytest.approx(4.0 + 3.0)
    assert openings.first(4.5) == ["b", "d", "e", "c", "other"]
    openings.take(put[1])
    openings.take(put[4])
    openings.put(4, "e", kind="gpu", ready_at=7.0, toll=0.0, now=4.5)
    assert openings.first(4.5) == ["d", "a", "f", "c", "other"]
    assert openings.waits(4.5) == pytest.approx(0.5 + 2.5)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 20), st.integers(0, 9)), max_size=40),
    st.integers(0, 20),
)
def test_seats_come_in_the_same_order_as_if_all_were_sorted(
    changes: list[tuple[int, bool, int, int]], wait: int
) -> None:
    openings: Openings[int] = Openings()
    seats: dict[int, tuple[int, int]] = {}
    listed: dict[int, Opening[int]] = {}
    for now, (name, there, ready_at, toll) in enumerate(changes):
        if name in listed:
            openings.take(listed.pop(name))
            del seats[name]
        if there:
            listed[name] = openings.put(name, name, kind=0, ready_at=ready_at, toll=toll, now=now)
            seats[name] = (ready_at, toll)
    now = len(changes) + wait
    found = openings.first(now)
    ready = sorted((toll, name) for name, (ready_at, toll) in seats.items() if ready_at <= now)
    later = sorted((ready_at, name) for name, (ready_at, _) in seats.items() if ready_at > now)
    assert found == [name for _, name in ready[:3] + later[:1]]
    assert openings.waits(now) == sum(ready_at - now for ready_at, _ in later)


@given(
    pending=st.lists(st.one_of(st.just(0), st.integers(5_000, 60_000)), min_size=SEATS, max_size=SEATS),
    passed=st.floats(0.0, 1.0),
    tokens=st.integers(1, 60_000),
    held=st.dictionaries(st.integers(0, SEATS - 1), st.integers(1, 500), max_size=HOLDERS),
    deadline=st.floats(0.1, 5.0),
)
def test_nothing_is_lost_where_few_hold_the_prefix(
    pending: list[int], passed: float, tokens: int, held: dict[int, int], deadline: float
) -> None:
    """The engines are alike and only prefill, so the best is one of those that hold most or are ready first."""
    few, many = (_least_cost(pending, passed, tokens, held, deadline, few=few) for few in (SEATS, 24))
    assert few == many


def _least_cost(
    pending: list[int], passed: float, tokens: int, held: dict[int, int], deadline: float, *, few: int
) -> float:
    fleet = Fleet(PolynomialTiming(PREFILL, DECODE, 1_048_576), SEATS)
    for body, count in zip(fleet.bodies.values(), pending, strict=True):
        body.asks, body.running = ([Ask(-1, count)], 1) if count else ([], 0)
    seats = Seats(
        fleet,
        patience=0.25,
        fill=4096,
        stall=5.0,
        pace=0.85,
        spare=lambda one: one.free_blocks,
        hosts=set(),
        lasting=dict.fromkeys(range(SEATS), 0),
        few=few,
    )
    choosing = Choosing(fleet, seats, patience=0.25)
    for body in fleet.bodies.values():
        seats.refresh(seats.add(body))
    fleet.now += passed
    ask = Ask(1, tokens)
    deepest = sorted(held, key=lambda engine: -held[engine])
    fleet.held[1] = {engine: min(held[engine], (tokens - 1) // BLOCK) * BLOCK for engine in deepest}
    job = Job(ask, deadline=passed + deadline)
    choosing.look(job, fleet.now)
    if choosing.choose(job, fleet.now, alone=True) is None:
        return job.cost
    assert isinstance(job.decision, Choice)
    return min(candidate.cost for candidate in job.decision.candidates)
