"""What a policy knows of the engines' caches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coxswain_scheduler.simulator.setup import Fault
from tests.simulator.world import Written, ask, play, spec


def asked(**setup: Any) -> list[tuple[float, Mapping[int, int], int]]:
    """What is held of one prompt of 1,024 tokens, which engine 1 computes in the first 1.024 seconds, when asked."""
    seen: list[tuple[float, Mapping[int, int], int]] = []

    def look(it: Any) -> None:
        cluster, request = it.cluster, it.requests[1]
        seen.append((cluster.now, cluster.holders(request), cluster.cached(request, 1)))

    chunks = (1, 2)
    requests = [ask(0, 1024, 1, chunks=chunks), ask(1, 1024, 1, at=9.0, chunks=chunks), ask(2, 1088, 1, at=4.0)]
    play(requests, Written({0: 1, 2: 1}), doing=dict.fromkeys((0.5, 1.5, 2.5, 5.5, 6.5), look), **setup)
    return seen


def test_without_lag_it_knows_them_as_they_are() -> None:
    assert asked() == [
        (0.5, {}, 0),
        (1.5, {1: 960}, 960),
        (2.5, {1: 960}, 960),
        (5.5, {1: 960}, 960),
        (6.5, {1: 960}, 960),
    ]


def test_with_lag_it_learns_so_much_later_what_came_and_what_went() -> None:
    small = spec(total_blocks=17)
    assert asked(kv_event_lag_seconds=1.0, engine=small) == [
        (0.5, {}, 0),
        (1.5, {}, 0),
        (2.5, {1: 960}, 960),
        (5.5, {1: 960}, 960),
        (6.5, {}, 0),
    ], "the third request took its place at 4.0, and was done at 5.088"


def test_a_dead_engine_s_cache_is_forgotten() -> None:
    seen: list[Mapping[int, int]] = []
    chunks = (1, 2)
    look = {when: lambda it: seen.append(it.cluster.holders(it.requests[1])) for when in (2.1, 2.3)}
    kill = Fault(kind="Kill", engine=1, at=2.0, detection_seconds=0.2)
    requests = [ask(0, 1024, 1, chunks=chunks), ask(1, 1024, 1, at=9.0, chunks=chunks)]
    play(requests, Written({0: 1}), doing=look, kv_event_lag_seconds=1.0, faults=(kill,))
    assert seen == [{1: 960}, {}]
