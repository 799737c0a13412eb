"""Who goes on decoding elsewhere, where engines both prefill and decode."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.balancing import Balancing, Moves
from coxswain_scheduler.packing import Packing
from tests.policies.fleet import Fleet
from tests.scheduler.engines import fleet, packing, run

TOKEN_SECONDS = {0: 1e-4, 1: 1e-4, 2: 1e-4}


def moved(balancing: Balancing, wanted: dict[int, int] | None = None) -> list[tuple[int, int | None, int]]:
    """Request, source and target of each move."""
    found: Moves = balancing.moves(TOKEN_SECONDS, wanted or {})
    return [(request.id, request.engine, target.id) for request, target in found]


def uneven() -> tuple[Fleet, Packing, Balancing]:
    """Engine 0 has two long answers, 1 has one, 2 has nothing."""
    engines = fleet()
    at = packing(engines)
    for engine, tokens in ((0, 12_800), (0, 6400), (1, 12_800)):
        run(engines, at, engine, tokens=tokens, emitted=300)
    return engines, at, Balancing(engines, at)


def test_nobody_moves_where_all_are_alike() -> None:
    engines = fleet()
    at = packing(engines)
    for engine in range(3):
        run(engines, at, engine, tokens=6400, emitted=300)
    assert moved(Balancing(engines, at)) == []


def test_a_long_answer_goes_from_the_slowest_steps_to_the_fastest() -> None:
    _, _, balancing = uneven()
    assert moved(balancing) == [(0, 0, 2)]


def test_who_is_on_the_way_is_not_sent_again_and_its_engines_are_left_alone() -> None:
    engines, at, balancing = uneven()
    assert moved(balancing) == [(0, 0, 2)]
    assert moved(balancing) == []
    engines.now += 10.0  # it was refused there
    assert moved(balancing) == [(0, 0, 2)]
    request = at.decoding[0][0]
    at.left(request, 0)
    at.placed(request, 2)
    engines.move(request, 2)
    assert moved(balancing) == []


def test_an_engine_whose_kv_runs_out_gives_its_shortest_away() -> None:
    engines = fleet()
    at = packing(engines)
    run(engines, at, 0, tokens=60_000)
    short = run(engines, at, 0, tokens=3900)
    assert moved(Balancing(engines, at)) == [(short.id, 0, 1)]


def test_room_is_made_for_as_many_blocks_as_a_prompt_lacks_and_no_more() -> None:
    engines = fleet()
    at = packing(engines)
    requests = [run(engines, at, 0, tokens=64 * 200) for _ in range(4)]
    balancing = Balancing(engines, at)
    ((first, _, _),) = moved(balancing, {0: 500})
    ((second, _, _),) = moved(balancing, {0: 500})  # 200 free, 200 on their way: another is to go
    assert {first, second} <= {each.id for each in requests} and first != second
    assert moved(balancing, {0: 500}) == []


def test_high_priorities_go_to_a_host_and_others_away_from_it() -> None:
    engines = fleet()
    at = packing(engines)
    run(engines, at, 0, tokens=640, priority=1)  # the first is where a host is
    other = run(engines, at, 0, tokens=6400, emitted=60)
    stray = run(engines, at, 1, tokens=1280, priority=1)
    assert moved(Balancing(engines, at)) == [(stray.id, 1, 0)]
    at.left(stray, 1)
    engines.leave(stray)
    assert moved(Balancing(engines, at)) == [(other.id, 0, 2)]


def test_others_stay_on_a_host_while_there_is_no_room_elsewhere() -> None:
    engines = fleet(2)
    at = packing(engines)
    run(engines, at, 0, tokens=640, priority=1)
    run(engines, at, 0, tokens=12_800, emitted=60)
    run(engines, at, 1, tokens=44_800)
    assert moved(Balancing(engines, at)) == []


def test_a_high_priority_leaves_an_engine_whose_kv_runs_out_when_nobody_else_can() -> None:
    engines = fleet()
    at = packing(engines)
    run(engines, at, 0, tokens=60_000, priority=1)
    short = run(engines, at, 0, tokens=3900, priority=1)
    assert moved(Balancing(engines, at)) == [(short.id, 0, 1)]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(2, 20_000), st.integers(1, 400), st.integers(0, 1)), max_size=30),
    st.dictionaries(st.integers(0, 2), st.integers(1, 900), max_size=2),
)
def test_whatever_moves_may_and_fits(placed: list[tuple[int, int, int, int]], wanted: dict[int, int]) -> None:
    engines = fleet()
    at = packing(engines)
    for engine, tokens, emitted, priority in placed:
        if engines.bodies[engine].free_blocks * 64 > tokens + emitted + 64:
            run(engines, at, engine, tokens=tokens + emitted, emitted=emitted, priority=priority)
    found = Balancing(engines, at).moves(TOKEN_SECONDS, wanted)
    assert len({request.id for request, _ in found}) == len(found)
    for request, target in found:
        assert request.engine != target.id
        assert target.free_blocks * 64 >= request.prompt_tokens + request.emitted
