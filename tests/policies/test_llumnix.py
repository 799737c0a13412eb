"""Llumnix v0."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from coxswain_scheduler.policies.llumnix import Llumnix
from tests.policies.fleet import Ask, Desk

Make = Callable[..., Desk]
BLOCKS = 1024


def small(desk: Make, options: str = "", engines: int = 2) -> tuple[Desk, Llumnix]:
    """Engines of 1,024 blocks of 64 tokens."""
    work = desk("llumnix" + options, engines)
    for body in work.fleet.bodies.values():
        body.total_blocks = BLOCKS
    assert isinstance(work.policy, Llumnix)
    return work, work.policy


def put(work: Desk, engine: int, tokens: int, *, emitted: int = 1, priority: int = 0) -> Ask:
    """A request that runs on an engine, however it came there."""
    ask = work.ask(tokens, priority=priority)
    work.fleet.leave(ask)
    ask.engine = engine
    work.fleet.bodies[engine].asks.append(ask)
    if emitted:
        work.fleet.admitted(ask, emitted=emitted)
    return ask


def test_freeness_is_steps_until_full(desk: Make) -> None:
    work, policy = small(desk)
    body = work.fleet.bodies[0]
    assert policy.remaining_steps(body) == math.inf
    put(work, 0, 640 - 1)
    put(work, 0, 640 - 1)
    assert policy.remaining_steps(body) == (BLOCKS - 20) / 2
    put(work, 0, 1280, emitted=0)
    put(work, 0, 6400, emitted=0)
    assert policy.remaining_steps(body) == (BLOCKS - 20 - 20 - 100) / 4
    assert policy.remaining_steps(body, first=True) == (BLOCKS - 20 - 20) / 3  # of the queue, its head


def test_dispatches_to_the_freest(desk: Make) -> None:
    work, _ = small(desk, engines=3)
    put(work, 0, 6400)
    put(work, 2, 640)
    assert work.ask().engine == 1
    put(work, 1, 12800)
    assert work.ask().engine == 2


def test_avoids_busy_engines_until_all_are(desk: Make) -> None:
    work, _ = small(desk)
    for _ in range(130):
        put(work, 0, 63)  # freer than the other by blocks, but more than 128 decode
    put(work, 1, (BLOCKS - 20) * 64 - 1)
    assert work.ask(100).engine == 1


def test_moves_the_shortest_from_the_fullest_to_the_freest(desk: Make) -> None:
    work, _ = small(desk, engines=3)
    put(work, 0, 1000 * 64 - 1)
    short = put(work, 0, 23 * 64 - 1)
    put(work, 1, 640)
    work.tick(0.05)
    assert work.fleet.done[-1] == ("move", short.id, 2)


def test_only_one_migration_for_an_engine_at_a_time(desk: Make) -> None:
    work, policy = small(desk, engines=2)
    put(work, 0, 900 * 64 - 1)
    for _ in range(3):
        put(work, 0, 41 * 64 - 1)
    stuck = put(work, 0, 40, emitted=1)
    work.fleet._go = lambda *_: None  # type: ignore[method-assign]  # the migration takes its time
    work.tick(0.05)
    assert list(policy._migrations) == [stuck.id]
    work.tick(0.05)
    assert list(policy._migrations) == [stuck.id]
    work.tick(11.0)  # given up, and tried again
    assert list(policy._migrations) == [stuck.id] and policy._migrations[stuck.id].started > 11.0


def test_an_engine_with_a_preempted_request_is_relieved(desk: Make) -> None:
    work, _ = small(desk)
    running = put(work, 0, 640)
    preempted = put(work, 0, 640, emitted=0)
    work.tick(0.05)
    assert not any(how == "move" for how, _, _ in work.fleet.done)
    preempted.emitted = 9
    work.tick(0.05)
    assert work.fleet.done[-1] == ("move", running.id, 1)


def test_high_priority_keeps_headroom_and_stays(desk: Make) -> None:
    work, policy = small(desk)
    high = put(work, 0, 640 - 1, priority=1)
    put(work, 0, 1280 - 1)
    body = work.fleet.bodies[0]
    assert policy.remaining_steps(body) == (1600 // 64 - 10 - 20) / 2
    work.tick(0.05)
    assert [moved for how, moved, _ in work.fleet.done if how == "move"] == [high.id + 1]
    _, ignoring = small(desk, ":priorities=false")
    assert ignoring.remaining_steps(work.fleet.bodies[0]) > 100


def test_high_priorities_gather_where_others_leave_them_headroom(desk: Make) -> None:
    work, _ = small(desk, engines=3)
    put(work, 0, 640 - 1, priority=1)
    put(work, 1, 640 - 1)
    put(work, 2, 1280 - 1)
    assert work.ask(100, priority=1).engine == 0
    assert work.ask(100).engine == 1
    put(work, 0, 64_000 - 1, priority=1)
    assert work.ask(100, priority=1).engine == 1  # there is no room left where they are


def test_by_reports_a_dispatch_counts_when_the_next_step_is_over(desk: Make) -> None:
    work, policy = small(desk, ":reports=true")
    put(work, 0, 640 - 1)
    put(work, 1, 1280 - 1)
    body = work.fleet.bodies[0]
    work.fleet.now, body.busy_until = 10.0, 11.0
    before = policy.remaining_steps(body)
    assert [work.ask(6400).engine for _ in range(3)] == [0, 0, 0]
    work.fleet.now = 11.0  # the step under way is over: the next one prefills them
    assert policy.remaining_steps(body) == before and work.ask(640).engine == 0
    work.fleet.now = 20.0
    assert policy.remaining_steps(body) < before and work.ask(640).engine == 1


def test_informed_it_counts_what_it_has_dispatched(desk: Make) -> None:
    work, _ = small(desk)
    assert {work.ask(6400).engine for _ in range(2)} == {0, 1}


@pytest.mark.parametrize(("load", "started", "left"), [(1020, 1, 0), (1, 0, 1)])
def test_scales_on_the_mean_of_remaining_steps(desk: Make, load: int, started: int, left: int) -> None:
    work, _ = small(desk, ":scale=true,migrate=false", engines=3)
    for engine in range(3):
        put(work, engine, load * 64 - 1)
    work.tick(9.0)
    assert (work.fleet.started, work.fleet.leaving) == (0, [])
    work.tick(1.0)
    assert (work.fleet.started, len(work.fleet.leaving)) == (started, left)


def test_an_engine_that_leaves_is_emptied(desk: Make) -> None:
    work, _ = small(desk, ":scale=true,migrate=false", engines=2)
    put(work, 0, 640)
    put(work, 0, 640)
    moved, queued = put(work, 1, 640), put(work, 1, 640, emitted=0)
    body = work.fleet.bodies[0]
    body.total_blocks = 4096
    put(work, 0, 640)
    work.tick(10.0)
    assert work.fleet.leaving == [1]
    assert (moved.engine, queued.engine) == (0, 0)
    assert ("move", moved.id, 0) in work.fleet.done and ("take back", queued.id, 1) in work.fleet.done
