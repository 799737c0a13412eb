"""Past-Future admission."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.policies.past_future import PastFuture, peak_tokens
from tests.policies.fleet import Desk

Make = Callable[..., Desk]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=8))
def test_the_peak_is_that_of_playing_it_out(requests: list[tuple[int, int]]) -> None:
    held = np.array([held for held, _ in requests], dtype=float)
    remaining = np.array([[remaining for _, remaining in requests]], dtype=float)
    played = max(
        sum(tokens + step for tokens, left in requests if step <= left)
        for step in range(1 + max(left for _, left in requests))
    )
    assert peak_tokens(held, remaining)[0] == played


def test_waits_for_room_and_takes_it_in_order(desk: Make) -> None:
    work = desk("past-future:max_new=1000", 1)
    work.fleet.bodies[0].total_blocks = 100  # 6,400 tokens, 6,080 of them to plan with
    first, second, third, fourth = (work.ask(tokens) for tokens in (1500, 1500, 2000, 10))
    assert [ask.engine for ask in (first, second, third, fourth)] == [0, 0, None, None]
    work.end(first)
    assert [ask.engine for ask in (second, third, fourth)] == [0, 0, None]


def test_a_prompt_larger_than_the_engine_plans_for_runs_alone(desk: Make) -> None:
    work = desk("past-future", 1)
    work.fleet.bodies[0].total_blocks = 100
    assert work.ask(6300).engine == 0
    assert work.ask(10).engine is None


def test_learns_how_long_answers_are(desk: Make) -> None:
    work = desk("past-future:max_new=5000", 1)
    work.fleet.bodies[0].total_blocks = 100
    first = work.ask(1000)
    assert work.ask(1000).engine is None
    first.emitted = 200
    work.end(first)
    assert [work.ask(1000).engine for _ in range(3)] == [0, 0, 0]


def test_takes_the_engine_of_the_lowest_peak(desk: Make) -> None:
    work = desk("past-future", 2)
    first = work.ask(9000).engine
    assert {work.ask(1000).engine for _ in range(2)} == {1 - (first or 0)}


def test_a_remaining_length_is_drawn_from_longer_answers(desk: Make) -> None:
    work = desk("past-future:draws=200", 1)
    assert isinstance(work.policy, PastFuture)
    for emitted in (100, 200, 400):
        ask = work.ask(10)
        ask.emitted = emitted
        work.end(ask)
    remaining = work.policy._remaining(np.array([0.0, 250.0, 500.0]))
    assert remaining[:, 0].min() >= 100 and remaining[:, 0].max() <= 400
    assert set(remaining[:, 1]) == {150.0} and set(remaining[:, 2]) == {1.0}


def test_never_sends_more_than_an_engine_runs_at_once(desk: Make) -> None:
    work = desk("past-future:max_new=1", 2)
    for body in work.fleet.bodies.values():
        body.max_num_seqs = 3
    assert [work.ask(10).engine is None for _ in range(8)] == [False] * 6 + [True] * 2
