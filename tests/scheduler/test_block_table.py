"""A table of blocks is a dictionary, and a set of seats is a set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.prefixes.seats import seat_set
from coxswain_scheduler.prefixes.table import BlockTable

names = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 9), st.integers(0, 9).map(lambda row: row * 64 + 60))
"""Some of which want the same place, or the last ones."""
seats = st.sets(st.integers(0, 200))


@given(st.lists(st.tuples(names, st.integers(0, 5)), max_size=300))
def test_it_is_a_dictionary_without_zeros(changes: list[tuple[int, int]]) -> None:
    table, expected = BlockTable(), dict[int, int]()
    for name, number in changes:
        if number:
            table.put(name, number)
            expected[name] = number
        elif expected.pop(name, 0):
            table.remove(name)
    assert len(table) == len(expected)
    assert [table.get(name) for name, _ in changes] == [expected.get(name, 0) for name, _ in changes]


def test_a_full_table_grows_and_what_is_taken_out_leaves_no_trace() -> None:
    table = BlockTable()
    for name in range(10_000):
        table.put(name, name + 1)
    size = table.size
    for name in range(10_000):
        table.remove(name)
        table.put(name + 10_000, 1)
    assert (len(table), table.size, table.get(9_999), table.get(19_999)) == (10_000, size, 0, 1)


@given(seats, seats)
def test_sets_of_seats_are_sets(one: set[int], other: set[int]) -> None:
    mine, others = seat_set(one), seat_set(other)
    assert mine.all() == sorted(one)
    assert mine.minus(others).all() == sorted(one - other)
    assert mine.same(others) == (one == other)
    assert mine.empty() == (not one)
    for seat in one | other:
        assert mine.has(seat) == (seat in one)
        assert set(mine.toggled(seat).all()) == one ^ {seat}
