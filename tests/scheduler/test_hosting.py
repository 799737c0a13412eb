"""Where high priorities decode, and how many engines others leave to them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.scheduler.engines import fleet, packing, run


def test_there_are_hosts_while_there_are_high_priorities() -> None:
    engines = fleet()
    at = packing(engines)
    run(engines, at, 0, tokens=640)
    at.hosts.choose(list(engines.engines.values()))
    assert at.hosts.engines == set()
    high = run(engines, at, 1, tokens=640, priority=1)
    assert at.hosts.engines == {1}, "others are to keep clear at once"
    at.hosts.choose([])
    assert at.hosts.engines == set(), "all that decode are leaving"
    at.left(high, 1)
    at.hosts.choose(list(engines.engines.values()))
    assert at.hosts.engines == set()


def test_the_more_high_priorities_decode_the_more_hosts_there_are() -> None:
    engines = fleet(16)
    at = packing(engines)
    for engine in range(16):
        for _ in range(9):
            run(engines, at, engine, tokens=640)
    counts = []
    for _ in range(6):
        for _ in range(4):
            run(engines, at, 0, tokens=640, priority=1)
        at.hosts.choose(list(engines.engines.values()))
        counts.append(len(at.hosts.engines))
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] > 3
    assert 0 in at.hosts.engines, "who is a host stays one"


def test_there_are_fewer_hosts_where_the_others_need_the_room() -> None:
    hosts = []
    for tokens in (16_000, 56_000):
        engines = fleet(10)
        at = packing(engines)
        for engine in range(10):
            run(engines, at, engine, tokens=tokens)
        for engine in range(8):
            run(engines, at, engine, tokens=1600, priority=1)
        at.hosts.choose(list(engines.engines.values()))
        hosts.append(len(at.hosts.engines))
    assert hosts == [4, 1]


def test_high_priorities_get_as_many_hosts_as_hold_them() -> None:
    engines = fleet(4)
    at = packing(engines)
    for engine in range(4):
        run(engines, at, engine, tokens=58_000, priority=int(engine < 2))
    at.hosts.choose(list(engines.engines.values()))
    assert at.hosts.engines == {0, 1}, "116,000 tokens, and 64,000 in an engine"


def test_a_lost_engine_is_no_host() -> None:
    engines = fleet()
    at = packing(engines)
    run(engines, at, 1, tokens=640, priority=1)
    at.drop(1)
    del engines.bodies[1]
    assert at.hosts.engines == set()
    at.hosts.choose(list(engines.engines.values()))
    assert at.hosts.engines == set()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(2, 9000), st.integers(-1, 2)), max_size=20))
def test_hosts_are_engines_and_there_are_some_exactly_while_a_high_priority_decodes(
    placed: list[tuple[int, int, int]],
) -> None:
    engines = fleet(4)
    at = packing(engines)
    for engine, tokens, priority in placed:
        run(engines, at, engine, tokens=tokens, priority=priority)
    at.hosts.choose(list(engines.engines.values()))
    assert at.hosts.engines <= set(engines.bodies)
    assert bool(at.hosts.engines) == any(priority > 0 for _, _, priority in placed)
