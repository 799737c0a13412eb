"""Who holds how much of a prompt, now and soon."""

from collections.abc import Sequence
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.prefixes import Holders, Level, PrefixIndex, Seating, names, seat_set


def hits(index: PrefixIndex, hashes: Sequence[int]) -> dict[int, int]:
    """Leading blocks that each engine holds."""
    return dict(Holders(levels(index, hashes)))


def levels(index: PrefixIndex, hashes: Sequence[int]) -> list[Level]:
    """The same, where a block is a token and there is one more."""
    return index.levels(names(hashes), tokens=len(hashes) + 1, block_size=1)


def test_hits_are_leading_blocks() -> None:
    index = PrefixIndex()
    index.stored(0, [1, 2, 3])
    index.stored(70, [1, 2])
    assert hits(index, [1, 2, 3, 4]) == {0: 3, 70: 2}
    assert hits(index, [9]) == hits(index, []) == {}
    assert (len(index), index.entries) == (3, 5)


def test_levels_come_deepest_first_and_name_each_holder_once() -> None:
    index = PrefixIndex()
    for seat, depth in enumerate([5, 2, 5, 8]):
        index.stored(seat, range(100, 100 + depth))
    assert [(level.tokens, level.seats.all()) for level in levels(index, range(100, 120))] == [
        (8, [3]),
        (5, [0, 2]),
        (2, [1]),
    ]


def test_what_is_removed_or_replaced_is_gone() -> None:
    index = PrefixIndex()
    index.stored(0, [1, 2])
    index.removed(0, [2, 7])
    index.removed(1, [1])
    assert hits(index, [1, 2]) == {0: 1}
    index.replace(0, [5])
    assert hits(index, [1]) == {}
    assert hits(index, [5]) == {0: 1}
    index.drop(0)
    index.drop(9)
    assert hits(index, [5]) == {}
    assert (len(index), index.entries) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from(["store", "remove", "replace", "drop"]), st.integers(0, 2),
                          st.lists(st.integers(0, 5), max_size=4)), max_size=20))  # fmt: skip
def test_it_is_a_set_per_engine(operations: list[tuple[str, int, list[int]]]) -> None:
    index, held = PrefixIndex(), [set[int](), set[int](), set[int]()]
    for operation, seat, hashes in operations:
        match operation:
            case "store":
                index.stored(seat, hashes)
                held[seat] |= set(hashes)
            case "remove":
                index.removed(seat, hashes)
                held[seat] -= set(hashes)
            case "replace":
                index.replace(seat, hashes)
                held[seat] = set(hashes)
            case "drop":
                index.drop(seat)
                held[seat] = set()
    for block in range(6):
        assert hits(index, [block]) == {seat: 1 for seat, blocks in enumerate(held) if block in blocks}
    assert index.entries == sum(map(len, held))


@given(st.lists(st.integers(0, 40), max_size=90), st.integers(0, 40))
def test_holders_of_whole_prefixes_are_found_exactly(depths: list[int], length: int) -> None:
    index = PrefixIndex()
    for seat, depth in enumerate(depths):
        index.stored(seat, range(1, depth + 1))
    expected = {seat: min(depth, length) for seat, depth in enumerate(depths) if min(depth, length)}
    assert hits(index, range(1, length + 1)) == expected


@given(st.lists(st.sets(st.integers(0, 30)), max_size=20), st.integers(1, 31))
def test_holders_with_gaps_mislead_and_break_nothing(held: list[set[int]], length: int) -> None:
    index = PrefixIndex()
    for seat, blocks in enumerate(held):
        index.stored(seat, sorted(blocks))
    depths = [level.tokens for level in levels(index, range(length))]
    assert depths == sorted(set(depths), reverse=True)
    for seat, depth in hits(index, range(length)).items():
        assert depth - 1 in held[seat]


def test_an_engine_that_stores_and_evicts_for_ever_takes_no_more_room() -> None:
    index = PrefixIndex()
    for number in range(20_000):
        index.stored(0, [number])
        index.removed(0, [number - 10])
    assert (len(index), index.entries) == (10, 10)
    assert len(index._held[0].blocks) < 2_000


class TestHolders:
    LEVELS: ClassVar = [Level(192, seat_set([3])), Level(64, seat_set([0, 2]))]

    def test_those_that_hold_most_come_first(self) -> None:
        holders = Holders(self.LEVELS)
        assert list(holders.items()) == [(3, 192), (0, 64), (2, 64)]
        assert holders.most(2) == [(3, 192), (0, 64)]
        assert (holders.get(2), holders.get(1), holders.get(1, 0), 3 in holders, len(holders)) == (64, None, 0, True, 3)

    def test_engines_have_names_of_their_own_and_some_do_not_count(self) -> None:
        seating = Seating()
        for engine, seat in ((30, 3), (10, 0), (20, 2)):
            seating.add(engine, seat)
        seating.remove(10)
        holders = Holders(self.LEVELS, seating)
        assert dict(holders) == {30: 192, 20: 64}
        assert (holders.most(9), holders.get(3, 0), holders[20]) == ([(30, 192), (20, 64)], 0, 64)
