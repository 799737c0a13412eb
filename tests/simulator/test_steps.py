"""One engine: what comes when."""

from __future__ import annotations

import pytest

from coxswain_scheduler.interface import Request
from tests.simulator.world import STEP, Written, ask, play, spec


def test_the_first_token_comes_with_the_prompt_s_last_and_the_others_a_step_each() -> None:
    result, _ = play([ask(0, 1000, 4)], Written())
    (one,) = result.outcomes
    assert one.first_token == pytest.approx(1.0) and one.ended == pytest.approx(1.0 + 3 * STEP)
    assert one.inter_token == pytest.approx(STEP) and one.emitted == 4


def test_what_arrives_in_a_step_waits_for_its_end_and_stalls_those_that_decode() -> None:
    result, _ = play([ask(0, 1000, 10), ask(1, 500, 1, at=1.015)], Written())
    decodes, late = result.outcomes
    assert late.first_token == pytest.approx(1.02 + 0.5 + STEP), "with the decode step beside its prefill"
    assert decodes.ended == pytest.approx(1.0 + 9 * STEP + 0.5)


def test_a_long_prompt_is_computed_in_chunks_of_the_budget_which_the_policy_may_change() -> None:
    result, _ = play([ask(0, 2000, 1), ask(1, 100, 1, at=0.5)], Written(), engine=spec(step_tokens=1000))
    assert [one.first_token for one in result.outcomes] == [pytest.approx(2.0), pytest.approx(2.1)]
    result, _ = play(
        [ask(0, 2000, 1), ask(1, 100, 1, at=0.5)],
        Written(),
        engine=spec(step_tokens=1000),
        doing={0.6: lambda it: it.cluster.limit(0, step_tokens=1100)},
    )
    assert [one.first_token for one in result.outcomes] == [pytest.approx(2.1), pytest.approx(2.1)]


def test_a_prompt_seen_before_is_not_computed_again() -> None:
    chunks = (7, 8)
    result, _ = play([ask(0, 1024, 1, chunks=chunks), ask(1, 1024, 1, at=2.0, chunks=chunks)], Written())
    again = result.outcomes[1]
    assert again.cached == 960, "but for its last block, which gives the first token"
    assert again.ttft == pytest.approx(0.064)
    assert result.prefix_reuse == pytest.approx(960 / 2048)


def test_by_rank_an_urgent_request_overtakes() -> None:
    requests = [ask(0, 1000, 1), ask(1, 1000, 1, at=0.1), ask(2, 1000, 1, at=0.2, priority=1)]
    result, _ = play(requests, Written(rank=True), engine=spec(max_num_seqs=1))
    assert [one.first_token for one in result.outcomes] == [pytest.approx(time) for time in (1.0, 3.0, 2.0)]


def test_no_request_is_refused_for_the_length_of_an_answer_that_nobody_can_know() -> None:
    small = spec(total_blocks=16)  # 1,024 tokens
    result, _ = play([ask(0, 1000, 100), ask(1, 500, 10), ask(2, 1025, 1)], Written(), engine=small)
    grown, usual, long = result.outcomes
    assert grown.shed is None and grown.failed == "longer than the engine's KV"
    assert grown.emitted == 25 and grown.first_token is not None and grown.ended is None
    assert not grown.good(result.objectives)
    assert usual.ended is not None
    assert long.shed == "longer than the engine's KV" and long.first_token is None


def test_a_paused_request_keeps_its_kv_and_gets_nothing_until_it_is_resumed() -> None:
    blocks: list[int] = []
    result, _ = play(
        [ask(0, 1000, 11), ask(1, 500, 1)],
        Written({1: 1}),
        doing={
            1.015: lambda it: it.cluster.pause(it.requests[0]),
            1.5: lambda it: blocks.append(it.fleet.living[0].free_blocks),
            2.0: lambda it: it.cluster.resume(it.requests[0]),
        },
    )
    assert blocks == [16384 - 16]
    assert result.outcomes[0].ended == pytest.approx(2.0 + 8 * STEP), "three tokens were out"


def test_a_request_taken_back_is_computed_anew_where_it_is_sent_but_for_the_blocks_that_are_cached_there() -> None:
    result, _ = play(
        [ask(0, 1000, 11, chunks=(1, 2))],
        Written(),
        doing={
            1.035: lambda it: it.cluster.take_back(it.requests[0]),
            2.0: lambda it: it.cluster.dispatch(it.requests[0], 0),
        },
    )
    (one,) = result.outcomes
    assert one.emitted == 11 and one.first_token == pytest.approx(1.0)
    assert one.ended == pytest.approx(2.0 + 0.044 + 6 * STEP), "four were out, 44 tokens of 1,004 are computed"


def test_what_is_shed_comes_back_as_often_as_its_client_tries() -> None:
    class Full(Written):
        def arrived(self, request: Request) -> None:
            self.told.append(("arrived", request.id))
            if self.cluster.now < 2.5:
                self.cluster.shed(request, "full")
            else:
                self.cluster.dispatch(request, 0)

    policy = Full()
    result, _ = play([ask(0, 100, 1)], policy, retry_shed=3)
    assert policy.told.count(("arrived", 0)) == 4
    assert result.outcomes[0].first_token == pytest.approx(3.1) and result.shed == 0
    assert result.outcomes[0].ttft == pytest.approx(3.1), "its client has waited since the first time"
    result, _ = play([ask(0, 100, 1)], Full(), retry_shed=2)
    assert result.shed == 1 and result.outcomes[0].shed == "full"
    with pytest.raises(ValueError, match="has emitted tokens"):
        play([ask(0, 100, 9)], Written(), doing={0.12: lambda it: it.cluster.shed(it.requests[0], "late")})


def test_a_run_in_which_nothing_happens_any_more_ends() -> None:
    class Waits(Written):
        period = 0.1

        def arrived(self, request: Request) -> None:
            pass

    result, simulation = play([ask(0, 100, 1)], Waits())
    assert result.outcomes[0].ended is None and result.outcomes[0].shed is None
    assert simulation.now <= 3600.1
    result, _ = play([ask(0, 100, 1), ask(1, 100, 1, at=50.0)], Written(), max_seconds=10.0)
    assert [one.ended is None for one in result.outcomes] == [False, True] and result.virtual_s <= 10.0


def test_engines_join_after_their_start_up_time_and_leave_when_they_are_empty() -> None:
    result, _ = play(
        [ask(0, 1000, 101), ask(1, 100, 1, at=9.0)],
        policy := Written(),
        engines=1,
        engine=spec(startup_seconds=5.0, gpus=2),
        doing={0.5: lambda it: it.cluster.start(), 6.0: lambda it: it.cluster.stop(0)},
    )
    assert ("joined", 1) in policy.told
    assert result.engine_seconds == pytest.approx(6.0 + 9.1 - 0.5), "each from when it was asked for"
    assert result.gpu_seconds == 2 * result.engine_seconds
    assert result.outcomes[1].ended == pytest.approx(9.1)
    result, _ = play(
        [ask(0, 1000, 101), ask(1, 100, 1, at=9.0)],
        Written({1: 1}),
        doing={1.5: lambda it: it.cluster.stop(0)},
    )
    assert result.engine_seconds == pytest.approx(2.0 + 9.1), "when what it runs has ended"
