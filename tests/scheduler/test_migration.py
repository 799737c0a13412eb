"""Which request goes where, and what speaks for it."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter

from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.freeness import Worker
from coxswain_scheduler.migration import Migration, Movable, Pairing

PAIRING = Pairing(block_size=16, kv_bytes_per_token=128 * 1024, link_bytes_per_second=25e9)


def worker(
    *,
    free: int = 500,
    running: int = 8,
    waiting: int = 0,
    wanted: int = 0,
    priority: int = 0,
    step: float = 0.02,
    leaving: bool = False,
    busy: bool = False,
) -> Worker:
    return Worker(
        free_blocks=free,
        total_blocks=1000,
        running=running,
        waiting=waiting,
        wanted_blocks=wanted,
        wanted_priority=priority,
        step_seconds=step,
        token_seconds=1e-4,
        leaving=leaving,
        busy=busy,
    )


def paired(*fleet: Worker, movable: dict[int, list[Movable]], pairing: Pairing = PAIRING) -> list[Migration]:
    by_tokens = attrgetter("priority", "tokens")
    return pairing.pair(list(fleet), lambda number: sorted(movable.get(number, []), key=by_tokens))


def test_nobody_moves_where_all_is_well() -> None:
    assert paired(worker(), worker(), movable={0: [Movable("r", 0, 1000)]}) == []
    assert paired(movable={}) == []


def test_a_full_engine_gives_its_shortest_to_the_one_that_lasts_longest() -> None:
    requests = [Movable("long", 0, 4000), Movable("short", 0, 800), Movable("urgent", 1, 100)]
    (move,) = paired(worker(free=4), worker(free=600), worker(free=900), movable={0: requests})
    assert (move.request, move.source, move.destination, move.reason) == ("short", 0, 2, "Balance")
    assert move.gain_seconds > move.cost_seconds > 0


def test_a_slow_gpu_lasts_longer_with_as_many_blocks() -> None:
    fleet = worker(free=4), worker(free=500, step=0.02), worker(free=500, step=0.05)
    (move,) = paired(*fleet, movable={0: [Movable("r", 0, 800)]})
    assert move.destination == 2


def test_room_is_made_by_the_least_that_is_enough() -> None:
    requests = [Movable("small", 0, 100), Movable("fits", 0, 700), Movable("large", 0, 5000)]
    (move,) = paired(worker(free=60, waiting=1, wanted=100), worker(), movable={0: requests})
    assert (move.request, move.reason) == ("fits", "Defragment")
    (move,) = paired(worker(free=60, waiting=1, wanted=800), worker(), movable={0: requests})
    assert move.request == "large"


def test_only_the_less_urgent_make_room_for_the_urgent() -> None:
    requests = [Movable("equal", 2, 700), Movable("batch", -1, 3000), Movable("usual", 0, 800)]
    tight = worker(free=60, waiting=1, wanted=100, priority=2)
    (move,) = paired(tight, worker(), movable={0: requests})
    assert (move.request, move.reason) == ("batch", "Priority")
    assert paired(tight, worker(), movable={0: requests[:1]}) == []


def test_the_urgent_come_before_the_crowded_and_the_leaving_before_all() -> None:
    fleet = (
        worker(free=4),
        worker(free=60, waiting=1, wanted=100),
        worker(free=60, waiting=1, wanted=100, priority=1),
        worker(leaving=True),
        *[worker(free=900)] * 8,
    )
    moves = paired(*fleet, movable={number: [Movable(number, 0, 2000)] for number in range(4)})
    assert [move.reason for move in moves] == ["Leaving", "Priority", "Defragment", "Balance"]
    assert [move.source for move in moves] == [3, 2, 1, 0]


def test_an_engine_that_leaves_sends_to_several_what_is_dearest_first() -> None:
    requests = [Movable(f"r{tokens}", 0, tokens) for tokens in (500, 4000, 3000, 2000, 1000)]
    moves = paired(worker(leaving=True), *[worker()] * 6, movable={0: requests})
    assert [move.request for move in moves] == ["r4000", "r3000", "r2000", "r1000"]
    assert len({move.destination for move in moves}) == 4


def test_what_is_sooner_computed_anew_than_copied_stays() -> None:
    slow = Pairing(block_size=16, kv_bytes_per_token=128 * 1024, link_bytes_per_second=1e8)
    fleet = worker(leaving=True, running=50), worker(running=50, free=900)
    assert paired(*fleet, movable={0: [Movable("r", 0, 4000)]})
    assert paired(*fleet, movable={0: [Movable("r", 0, 4000)]}, pairing=slow) == []
    assert paired(*fleet, movable={0: [Movable("just begun", 0, 20)]}) == []


def test_who_is_busy_or_has_no_room_is_left_alone() -> None:
    requests = {0: [Movable("r", 0, 800)]}
    assert paired(worker(free=4, busy=True), worker(), movable=requests) == []
    assert paired(worker(free=4), worker(busy=True), worker(leaving=True, running=0), movable=requests) == []
    assert paired(worker(free=4), worker(free=40), movable=requests) == []


def test_a_move_explains_itself_in_one_line() -> None:
    (move,) = paired(worker(free=4), worker(), movable={0: [Movable("r7", 0, 800)]})
    assert move.explain().startswith("r7 from 0 to 1: its engine is soon full, and would preempt; saves ")
    assert "\n" not in move.explain()


workers_of_all_kinds = st.builds(
    worker,
    free=st.integers(0, 1000),
    running=st.integers(0, 64),
    waiting=st.integers(0, 3),
    wanted=st.integers(0, 600),
    priority=st.integers(-1, 2),
    step=st.floats(0.001, 0.2),
    leaving=st.booleans(),
    busy=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(workers_of_all_kinds, st.lists(st.integers(1, 8000), max_size=6)), max_size=24))
def test_every_move_fits_pays_and_uses_an_engine_once(fleet: list[tuple[Worker, list[int]]]) -> None:
    held = {n: [Movable((n, i), 0, tokens) for i, tokens in enumerate(each)] for n, (_, each) in enumerate(fleet)}
    moves = paired(*(each for each, _ in fleet), movable=held)
    sources, destinations = (Counter(getattr(move, side) for move in moves) for side in ("source", "destination"))
    assert len({move.request for move in moves}) == len(moves)
    assert not sources.keys() & destinations.keys()
    assert set(destinations.values()) <= {1}
    for move in moves:
        source, to = fleet[move.source][0], fleet[move.destination][0]
        assert sources[move.source] == 1 or source.leaving
        assert not (source.busy or to.busy or to.leaving)
        tokens = next(each.tokens for each in held[move.source] if each.request == move.request)
        assert -(-tokens // 16) <= to.free_blocks - to.wanted_blocks
        assert move.gain_seconds > move.cost_seconds
