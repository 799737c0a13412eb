"""Which engines have room for decodes, and what goes where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.packing import Answers, FreeBlocks
from tests.policies.fleet import Ask
from tests.scheduler.engines import fleet, packing, run


def test_answers_met_at_any_moment_are_the_long_ones() -> None:
    answers = Answers()
    for tokens in (10, 10, 10, 1000):
        answers.ended(tokens)
    assert answers.mean == 257.5
    assert answers.remaining > 480  # nearly always it is the long one that is met, about halfway


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=1200))
def test_only_recent_answers_count(lengths: list[int]) -> None:
    answers = Answers()
    for tokens in lengths:
        answers.ended(tokens)
    recent = lengths[-500:]
    assert abs(answers.mean - sum(recent) / len(recent)) < 1e-6
    assert answers.mean / 2 <= answers.remaining + 1e-6


def test_blocks_go_while_nothing_is_reported() -> None:
    engines, free = fleet(1), FreeBlocks()
    ask = run(engines, packing(engines), 0, tokens=6400)
    body = engines.bodies[0]
    assert free.now(body) == 900
    stale = type("Stale", (), {"id": 0, "free_blocks": 900, "block_size": 64, "context": body.context + 640})()
    assert free.now(stale) == 890
    ask.emitted += 640
    assert free.now(body) == 890


def test_what_decodes_need_soon_is_not_spare() -> None:
    engines = fleet(1)
    at = packing(engines)
    assert at.spare(engines.bodies[0], steps=64) == 999
    for _ in range(9):
        run(engines, at, 0, tokens=640)
    assert at.spare(engines.bodies[0], steps=64) == 1000 - 90 - 10
    assert at.spare(engines.bodies[0], steps=6400) == (1000 - 90) // 8  # a small prompt hardly brings the end nearer


def test_decodes_are_packed_and_high_priorities_spread() -> None:
    engines = fleet()
    at = packing(engines)
    run(engines, at, 0, tokens=6400)
    run(engines, at, 1, tokens=12800)
    new = at.best(Ask(7, 640), engines.engines.values())
    assert new is not None and new.id == 1
    urgent = at.best(Ask(8, 640, priority=1), engines.engines.values())
    assert urgent is not None and urgent.id == 0


def test_a_step_stays_within_the_objective() -> None:
    engines = fleet(1)
    at = packing(engines, inter_token=0.030)
    assert at.room(engines.bodies[0], 400) > 0  # 5 ms and 20
    assert at.room(engines.bodies[0], 600) < 0


def test_others_leave_headroom_to_a_high_priority_while_it_is_there() -> None:
    engines = fleet(1)
    at = packing(engines, reserved=0.4)
    before = at.room(engines.bodies[0], 500)
    urgent = run(engines, at, 0, tokens=64, priority=1)
    assert before > 0 > at.room(engines.bodies[0], 600)
    assert at.room(engines.bodies[0], 600, priority=1) > 0
    assert at.left(urgent, 0) and at.room(engines.bodies[0], 600) > 0


def test_answers_of_twice_the_mean_are_long() -> None:
    engines = fleet(2)
    at = packing(engines)
    at.answers.ended(100)
    ask = run(engines, at, 0, tokens=500, emitted=200)
    at.look()
    assert at.lasting == {0: 0, 1: 0}
    ask.emitted = 201
    at.look()
    assert at.lasting == {0: 1, 1: 0}


def test_the_emptiest_is_emptied_or_left_alone() -> None:
    engines = fleet()
    at = packing(engines)
    lone = run(engines, at, 0, tokens=640)
    run(engines, at, 1, tokens=12800)
    run(engines, at, 2, tokens=6400)
    (move,) = at.gather(engines.engines.values())
    assert move == (lone, engines.bodies[1])
    run(engines, at, 1, tokens=51_000)
    run(engines, at, 2, tokens=57_000)
    assert at.gather(engines.engines.values()) == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(2, 20_000)), max_size=20), st.integers(0, 1))
def test_who_is_sent_somewhere_fits_there(placed: list[tuple[int, int]], priority: int) -> None:
    engines = fleet()
    at = packing(engines)
    for engine, tokens in placed:
        if engines.bodies[engine].free_blocks * 64 > tokens + 64:
            run(engines, at, engine, tokens=tokens)
    best = at.best(Ask(99, 3000, priority=priority), engines.engines.values())
    assert best is None or best.free_blocks >= 47


def test_batch_work_pauses_for_others_and_goes_on() -> None:
    engines = fleet(1)
    at = packing(engines, inter_token=0.02)
    batch = run(engines, at, 0, tokens=20_000, priority=-1)
    other = run(engines, at, 0, tokens=3000)
    assert at.relieve(engines.bodies[0]) == ([batch], [])
    at.paused[batch.id] = batch
    at.left(other, 0)
    assert at.relieve(engines.bodies[0]) == ([], [batch])
