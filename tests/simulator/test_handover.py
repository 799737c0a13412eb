"""Prefilled on one engine, decoded on another."""

from __future__ import annotations

import pytest

from coxswain_scheduler.simulator.setup import Fault
from tests.simulator.world import SLOW_LINK, STEP, Written, ask, play, spec


def test_over_a_free_link_the_first_token_comes_with_the_first_step_there() -> None:
    result, _ = play([ask(0, 1000, 4)], Written(place={0: 1}))
    (one,) = result.outcomes
    assert one.first_token == pytest.approx(1.0 + STEP)
    assert one.ended == pytest.approx(1.0 + 4 * STEP), "every token is a step of the engine that decodes"


def test_where_it_was_prefilled_its_first_token_is_out_already() -> None:
    for output in (1, 4):
        policy = Written(place={0: 0})
        result, _ = play([ask(0, 1024, output)], policy)
        (one,) = result.outcomes
        assert one.first_token == pytest.approx(1.024)
        assert one.ended == pytest.approx(1.024 + (output - 1) * STEP)
        assert policy.told[-1] == ("ended", 0)


def test_kv_takes_its_time_on_a_link_and_one_waits_for_the_other() -> None:
    result, _ = play([ask(0, 1000, 1), ask(1, 1000, 1)], Written(place={0: 1, 1: 1}), **SLOW_LINK)
    assert [one.first_token for one in result.outcomes] == [
        pytest.approx(2.0 + 0.999 + STEP),
        pytest.approx(2.0 + 2 * 0.999 + STEP),
    ]


def test_only_what_the_target_does_not_hold_is_sent() -> None:
    chunks = (1, 2)
    requests = [ask(0, 1000, 1, chunks=chunks), ask(1, 1000, 1, at=5.0, chunks=chunks)]
    result, _ = play(requests, Written(to={0: 1}, place={1: 1}), **SLOW_LINK)
    assert result.outcomes[1].ttft == pytest.approx(1.0 + 0.039 + STEP), "960 of 999 are there"


def test_the_source_keeps_its_blocks_until_the_kv_is_there() -> None:
    free: list[int] = []
    look = {when: lambda it: free.append(it.fleet.living[0].free_blocks) for when in (1.5, 1.9, 2.5)}
    play([ask(0, 1000, 100)], Written(place={0: 1}), doing=look, **SLOW_LINK)
    assert free == [16384 - 16, 16384 - 16, 16384]


def test_kv_that_comes_in_the_middle_of_a_step_waits_for_its_end() -> None:
    requests = [ask(0, 1000, 3), ask(1, 1500, 1, at=1.5)]
    result, _ = play(requests, Written({1: 1}, place={0: 1}), **SLOW_LINK)
    assert result.outcomes[0].first_token == pytest.approx(3.0 + STEP), "it was there at 1.999"


def test_kv_sets_out_when_the_target_has_admitted_the_request() -> None:
    requests = [ask(0, 1000, 3), ask(1, 1500, 1, at=0.9)]
    result, _ = play(requests, Written({1: 1}, place={0: 1}), **SLOW_LINK)
    assert result.outcomes[0].first_token == pytest.approx(2.4 + 0.999 + STEP)


def test_a_full_target_admits_it_when_there_is_room() -> None:
    small = spec(total_blocks=20)
    requests = [ask(0, 700, 101), ask(1, 700, 4)]
    result, _ = play(requests, Written({0: 1}, place={1: 1}), engine=small)
    first, second = result.outcomes
    assert first.ended == pytest.approx(0.7 + 100 * STEP)
    assert second.first_token == pytest.approx(1.7 + STEP)


def test_a_request_that_waits_for_a_place_in_the_batch_decodes_when_there_is_one() -> None:
    single = spec(max_num_seqs=1)
    requests = [ask(0, 100, 1), ask(1, 1000, 11, at=0.6)]
    policy = Written({1: 1}, place={0: 1})
    result, _ = play(requests, policy, engine=single, kv_bytes_per_token=1, link_bytes_per_second=99 / 1.55)
    first, second = result.outcomes
    assert second.ended == pytest.approx(1.7), "its KV came at 1.65, when the other one ran"
    assert first.first_token == pytest.approx(1.7 + STEP)


def test_where_the_source_dies_on_the_way_the_target_computes_the_prompt() -> None:
    kill = Fault(kind="Kill", engine=0, at=1.5, detection_seconds=0.1)
    result, _ = play([ask(0, 1000, 2)], Written(place={0: 1}), faults=(kill,), **SLOW_LINK)
    (one,) = result.outcomes
    assert one.first_token == pytest.approx(1.999 + 1.0) and one.ended == pytest.approx(2.999 + STEP)


def test_only_what_is_on_hold_can_be_placed() -> None:
    with pytest.raises(ValueError, match="request 0 is not on hold"):
        play([ask(0, 1000, 9)], Written(), doing={1.02: lambda it: it.cluster.place(it.requests[0], 1)})
    with pytest.raises(ValueError, match="request 0 has been dispatched"):
        play([ask(0, 1000, 9)], Written(), doing={1.02: lambda it: it.cluster.dispatch(it.requests[0], 1)})
