"""The queue of prompts: who starts first, who is refused, and for whose sake."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.queueing import CLASSES, BatchWork, DeadlineQueue, Job, LengthClasses
from tests.policies.fleet import Ask


def job(name: int, *, seconds: float, due: float = 2.0, priority: int = 0) -> Job:
    made = Job(Ask(name, 1000, priority=priority), deadline=due)
    made.needs(seconds)
    return made


def test_who_must_start_first_comes_first_and_the_more_urgent_before_that() -> None:
    queue = DeadlineQueue()
    jobs = [job(0, seconds=0.1), job(1, seconds=1.5), job(2, seconds=0.5), job(3, seconds=0.1, priority=1)]
    for each in jobs:
        queue.add(each)
    assert [each.request.id for each in queue] == [3, 1, 2, 0]
    queue.remove(jobs[1])
    queue.discard(jobs[1])
    assert [each.request.id for each in queue] == [3, 2, 0]


def test_the_longest_of_those_up_to_the_first_late_one_is_the_victim() -> None:
    queue = DeadlineQueue()
    for name, seconds in enumerate((0.4, 1.2, 0.4, 0.4)):
        queue.add(job(name, seconds=seconds))
    victim = queue.victim(now=0.0, free_in=0.3, width=1, may=lambda _: True)
    assert victim is not None
    assert victim.request.id == 1
    queue.remove(victim)
    assert queue.victim(now=0.0, free_in=0.3, width=1, may=lambda _: True) is None
    assert len(queue) == 3


def test_a_victim_is_one_who_may_be_refused() -> None:
    queue = DeadlineQueue()
    for name, seconds in enumerate((0.9, 1.2, 0.8)):
        queue.add(job(name, seconds=seconds))
    assert queue.victim(now=0.0, free_in=0.1, width=1, may=lambda _: False) is None


@given(st.lists(st.tuples(st.integers(1, 100_000), st.booleans()), max_size=300), st.floats(0.0, 1.0))
def test_no_class_of_lengths_falls_below_its_floor(requests: list[tuple[int, bool]], floor: float) -> None:
    classes = LengthClasses(floor=floor)
    offered, refused = [0.0] * CLASSES, [0.0] * CLASSES
    for tokens, wanted in requests:
        place = classes.offer(tokens)
        offered[place] += 1
        if wanted and classes.may_refuse(place):
            classes.refuse(place)
            refused[place] += 1
    assert all(gone <= (1 - floor) * came + 0.3 * came for gone, came in zip(refused, offered, strict=True))


@given(st.lists(st.integers(0, 3), max_size=30), st.data())
def test_batch_work_is_served_whole_group_by_group(names: list[int], data: st.DataObject) -> None:
    work = BatchWork()
    jobs = [Job(Ask(index, 100, hashes=[name]), deadline=0.0) for index, name in enumerate(names)]
    for each in jobs:
        work.add(each)
    dropped = set(data.draw(st.sets(st.sampled_from(range(len(jobs))))) if jobs else ())
    for index in dropped:
        work.discard(jobs[index])
    served = [work.next(0).request for _ in range(len(work))]
    assert sorted(each.id for each in served) == [index for index in range(len(jobs)) if index not in dropped]
    groups = [each.hashes[0] for each in served]
    assert sum(a != b for a, b in pairwise(groups)) == max(0, len(set(groups)) - 1)
