"""Live migration: from one engine to another between two tokens."""

from __future__ import annotations

from typing import Any

import pytest

from coxswain_scheduler.simulator.setup import Fault
from coxswain_scheduler.simulator.simulation import Simulation
from tests.simulator.world import STEP, Doing, Written, ask, play, spec

LINK: dict[str, Any] = {"kv_bytes_per_token": 1, "link_bytes_per_second": 10_000.0}
"""A hundred tokens in a step."""


def move(id: int = 0, to: int = 1) -> Doing:  # noqa: A002
    return lambda it: it.cluster.move(it.requests[id], to)


def where(seen: list[Any], id: int = 0) -> Doing:  # noqa: A002
    def look(it: Simulation) -> None:
        seen.append((it.requests[id].engine, it.requests[id].id in it.migrations, it.requests[id].emitted))

    return look


def test_over_a_free_link_nothing_stands_still() -> None:
    result, _ = play([ask(0, 1000, 11)], Written(), doing={1.035: move()})
    (one,) = result.outcomes
    assert one.moves == result.moves == 1
    assert one.ended == pytest.approx(1.0 + 10 * STEP)


def test_it_decodes_while_it_is_copied_and_stands_still_for_the_last_stage_only() -> None:
    seen: list[Any] = []
    result, _ = play(
        [ask(0, 1000, 101)],
        Written(),
        doing={1.035: move(), 1.12: where(seen), 1.139: where(seen), 1.16: where(seen)},
        **LINK,
    )
    assert [place for place, *_ in seen] == [0, 0, 1]
    assert [under_way for _, under_way, _ in seen] == [True, True, False]
    sent = 1003
    first_stage = 1.035 + sent / 10_000
    boundary = 1.14
    assert boundary - STEP < first_stage < boundary
    left = 1014 - 1 - sent  # fourteen tokens were out at the boundary, and the last one is not computed
    (one,) = result.outcomes
    assert one.ended == pytest.approx(boundary + (left + 1) / 10_000 + (101 - 15) * STEP, abs=2e-4)
    assert result.gaps.quantile(1.0) == pytest.approx(STEP + 11 / 10_000, rel=0.02), "the downtime"


def test_a_request_that_ends_meanwhile_leaves_nothing_behind_at_the_target() -> None:
    result, simulation = play([ask(0, 1000, 6)], Written(), doing={1.035: move()}, **LINK)
    assert result.moves == 0 and result.outcomes[0].ended == pytest.approx(1.05)
    assert not simulation.migrations


def test_a_target_without_room_refuses_and_the_request_goes_on() -> None:
    small = spec(total_blocks=20)
    result, _ = play([ask(0, 700, 101), ask(1, 700, 101)], Written({1: 1}), engine=small, doing={1.0: move()})
    assert result.moves == 0
    assert [one.ended for one in result.outcomes] == [pytest.approx(1.7), pytest.approx(1.7)]


def test_a_request_preempted_meanwhile_is_not_moved() -> None:
    small = spec(total_blocks=24)
    result, _ = play([ask(0, 700, 201), ask(1, 700, 201)], Written(), engine=small, doing={2.05: move(1)}, **LINK)
    assert result.preemptions > 0 and result.moves == 0
    assert all(one.emitted == 201 and one.ended is not None for one in result.outcomes)


def test_one_that_is_too_fast_for_the_link_is_given_up_after_three_stages() -> None:
    seen: list[Any] = []
    slow: dict[str, Any] = {"kv_bytes_per_token": 1, "link_bytes_per_second": 60.0}
    result, _ = play(
        [ask(0, 64, 8001), ask(1, 5000, 1)],
        Written({1: 1}),
        doing={60.0: move(), 400.0: where(seen)},
        **slow,
    )
    assert seen == [] or seen[0][1] is False
    assert result.moves == 0 and result.outcomes[0].emitted == 8001


def test_a_waiting_request_is_queued_there_at_once() -> None:
    single = spec(max_num_seqs=1)
    result, _ = play([ask(0, 1000, 1), ask(1, 1000, 1)], Written(), engine=single, doing={0.2: move(1)}, **LINK)
    assert result.outcomes[1].first_token == pytest.approx(1.2) and result.moves == 1


def test_pausing_it_or_taking_it_back_ends_its_move() -> None:
    def doing(what: str) -> dict[float, Doing]:
        return {
            1.035: move(),
            1.06: lambda it: getattr(it.cluster, what)(it.requests[0]),
            1.5: lambda it: (it.cluster.resume if what == "pause" else lambda it_: it.cluster.dispatch(it_, 0))(
                it.requests[0]
            ),
        }

    for what in ("pause", "take_back"):
        result, simulation = play([ask(0, 1000, 101)], Written(), doing=doing(what), **LINK)
        assert result.moves == 0 and result.outcomes[0].emitted == 101 and not simulation.migrations


@pytest.mark.parametrize("dead", [0, 1])
@pytest.mark.parametrize("at", [1.06, 1.1405])
def test_where_either_engine_dies_on_the_way_the_request_still_ends(dead: int, at: float) -> None:
    kill = Fault(kind="Kill", engine=dead, at=at, detection_seconds=0.2)
    result, _ = play([ask(0, 1000, 101)], Written(), doing={1.035: move()}, faults=(kill,), **LINK)
    (one,) = result.outcomes
    assert one.emitted == 101 and one.ended is not None
    assert result.moves == 0
