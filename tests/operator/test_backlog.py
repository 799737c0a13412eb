"""The work queue: one key once, delays, back-off. Time is told, not waited for."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from coxswain_operator.reconciling.backlog import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Backlog
from coxswain_operator.reconciling.pauses import FIRST_SECONDS, LAST_SECONDS, Pauses
from coxswain_operator.reconciling.queue import WorkQueue


def test_a_key_added_often_is_due_once() -> None:
    backlog: Backlog[str] = Backlog()
    for _ in range(5):
        backlog.add("a", now=0.0)
    assert backlog.pop(now=0.0) == "a"
    assert backlog.pop(now=0.0) is None


def test_a_key_added_during_the_work_comes_again_afterwards_and_not_before() -> None:
    backlog: Backlog[str] = Backlog()
    backlog.add("a", now=0.0)
    assert backlog.pop(now=0.0) == "a"
    backlog.add("a", now=1.0)
    assert backlog.pop(now=1.0) is None
    backlog.done("a", now=2.0)
    assert backlog.pop(now=2.0) == "a"


def test_a_delayed_key_is_due_at_the_earliest_of_its_times() -> None:
    backlog: Backlog[str] = Backlog()
    backlog.add_at("a", at=10.0)
    backlog.add_at("a", at=5.0)
    assert backlog.next_at() == 5.0
    assert backlog.pop(now=4.9) is None
    assert backlog.pop(now=5.0) == "a"
    backlog.done("a", now=5.0)
    assert backlog.pop(now=20.0) is None


def test_pauses_after_failures_double_up_to_a_limit_and_start_again_after_a_success() -> None:
    backlog: Backlog[str] = Backlog()
    pauses = [backlog.failed("a", now=0.0) for _ in range(30)]
    assert pauses[:3] == [FIRST_RETRY_SECONDS, 2 * FIRST_RETRY_SECONDS, 4 * FIRST_RETRY_SECONDS]
    assert pauses[-1] == LAST_RETRY_SECONDS
    backlog.succeeded("a")
    assert backlog.failed("a", now=0.0) == FIRST_RETRY_SECONDS


def test_depth_and_age_are_of_what_is_due() -> None:
    backlog: Backlog[str] = Backlog()
    backlog.add("a", now=1.0)
    backlog.add("b", now=2.0)
    backlog.add_at("c", at=100.0)
    assert len(backlog) == 2
    assert backlog.oldest(now=4.0) == 3.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "later", "pop", "done", "failed"]))))
def test_no_key_is_ever_worked_on_twice_at_once_or_forgotten(steps: list[tuple[str, str]]) -> None:
    backlog: Backlog[str] = Backlog()
    working: set[str] = set()
    owed: set[str] = set()
    for now, (key, step) in enumerate(steps):
        match step:
            case "add":
                backlog.add(key, now=now)
                owed.add(key)
            case "later":
                backlog.add_at(key, at=now + 2)
                owed.add(key)
            case "pop":
                popped = backlog.pop(now=now)
                if popped is not None:
                    assert popped not in working
                    working.add(popped)
                    owed.discard(popped)
            case "done" | "failed" if key in working:
                if step == "failed":
                    backlog.failed(key, now=now)
                    owed.add(key)
                working.discard(key)
                backlog.done(key, now=now)
    late = len(steps) + 2 * LAST_RETRY_SECONDS
    for key in list(working):
        backlog.done(key, now=late)
    left = set()
    while (popped := backlog.pop(now=late)) is not None:
        left.add(popped)
    assert owed <= left


async def test_a_waiting_worker_gets_a_key_as_soon_as_there_is_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    async with asyncio.timeout(5):
        assert await waiting == "a"


async def test_a_failed_key_comes_back_by_itself() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    async with asyncio.timeout(5):
        assert await queue.get() == "a"
        assert queue.failed("a") == FIRST_RETRY_SECONDS
        assert await queue.get() == "a"


def test_a_slot_that_fails_is_held_longer_each_time() -> None:
    pauses: Pauses[int] = Pauses()
    pauses.failed(0, now=0.0)
    assert pauses.held(now=0.0) == {0: FIRST_SECONDS}
    assert pauses.held(now=FIRST_SECONDS) == {}
    for _ in range(20):
        pauses.failed(0, now=0.0)
    assert pauses.held(now=0.0) == {0: LAST_SECONDS}
    pauses.worked(0)
    assert pauses.held(now=0.0) == {}
