"""Which engines give requests away and which may take one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.freeness import BALANCE, DEFRAGMENT, LEAVING, PRIORITY, Sides, Worker

MOST = 4


def worker(*, free: float, wanted: float = 0, urgent: bool = False, leaving: bool = False) -> Worker:
    return Worker(
        free_blocks=free,
        total_blocks=1000,
        running=8,
        waiting=int(wanted > 0),
        wanted_blocks=wanted,
        wanted_priority=int(urgent),
        step_seconds=0.02,
        token_seconds=1e-4,
        leaving=leaving,
    )


def sides(*rows: Worker) -> Sides:
    return Sides(list(rows), block_size=16, horizon=2.0)


def test_an_engine_lasts_until_its_sequences_have_taken_its_free_blocks() -> None:
    assert sides(worker(free=100)).lasts == [100 * 16 / 8 * 0.02]
    assert sides(worker(free=4, wanted=100)).lasts[0] < 0


def test_the_most_pressing_give_first_and_the_fullest_of_them() -> None:
    rows = [worker(free=9), worker(free=2), worker(free=4, wanted=10), worker(free=4, wanted=10, urgent=True)]
    rows += [worker(free=900, leaving=True), worker(free=900)]
    found = list(sides(*rows).givers())
    assert found == [(LEAVING, 4), (PRIORITY, 3), (DEFRAGMENT, 2), (BALANCE, 1), (BALANCE, 0)]


@given(st.lists(st.one_of(st.integers(0, 1000), st.sampled_from([300, 600])), max_size=60))
def test_those_that_last_longest_take_and_of_equal_ones_the_first(free: list[int]) -> None:
    roomy = [number for number, blocks in enumerate(free) if blocks * 16 / 8 * 0.02 > 2.0]
    expected = sorted(roomy, key=lambda number: -free[number])[:MOST]
    assert sides(*(worker(free=blocks) for blocks in free)).takers(MOST) == expected
