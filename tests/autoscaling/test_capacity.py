from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.autoscaling.capacity import (
    Mix,
    decode_step,
    decoding,
    prefilling,
    serving,
    token_seconds,
    waiting_seconds,
)
from coxswain_scheduler.interface import Objectives
from tests.autoscaling.flows import OBJECTIVES, SHAPE

CHAT = Mix(context=2000, output_tokens=500, prompt_tokens=1000, prompt_pairs=800_000)
mixes = st.builds(
    lambda prompt, output: Mix(prompt + output / 2, output, prompt, prompt * (prompt + 1) / 2),
    st.integers(10, 8000),
    st.integers(10, 8000),
)


@settings(max_examples=60, deadline=None)
@given(mix=mixes, inter_token=st.floats(0.012, 0.1))
def test_counts_meet_the_objectives_under_the_cost_model(mix: Mix, inter_token: float) -> None:
    objectives = Objectives(ttft=5.0, inter_token=inter_token)
    served, decoded = serving(SHAPE, mix, objectives), decoding(SHAPE, mix, objectives)
    if served.sequences:
        assert token_seconds(SHAPE, mix, round(served.sequences)) <= inter_token
        assert served.sequences * mix.context <= SHAPE.kv_tokens
    if decoded.sequences:
        assert decode_step(SHAPE, mix, round(decoded.sequences)) <= inter_token
        assert decoded.sequences >= served.sequences
    if rate := prefilling(SHAPE, mix, objectives):
        alone = waiting_seconds(SHAPE, mix, 0.0, 0.99, 0)
        busy = rate * alone
        assert busy <= 0.2 or waiting_seconds(SHAPE, mix, busy, 0.99, 0) <= objectives.ttft + 1e-6


def test_all_of_the_capacity_is_used_up_to_the_objective() -> None:
    whole = replace(SHAPE, usable=1.0, max_num_seqs=10_000, kv_tokens=10**9)
    found = serving(whole, CHAT, OBJECTIVES)
    assert token_seconds(whole, CHAT, round(found.sequences) + 1) > OBJECTIVES.inter_token


def test_a_tighter_objective_carries_less() -> None:
    assert serving(SHAPE, CHAT, Objectives(inter_token=0.015)).sequences < serving(SHAPE, CHAT, OBJECTIVES).sequences


def test_kv_and_the_limit_of_sequences_bound_it_too() -> None:
    short, long = CHAT._replace(context=100), CHAT._replace(context=40_000)
    loose = Objectives(ttft=5.0, inter_token=1.0)
    assert serving(SHAPE, short, loose).sequences == SHAPE.usable * SHAPE.max_num_seqs
    assert serving(SHAPE, long, loose).sequences * 40_000 <= SHAPE.kv_tokens


def test_an_objective_below_a_single_step_carries_nothing() -> None:
    assert serving(SHAPE, CHAT, Objectives(inter_token=0.001)).sequences == 0
    assert prefilling(SHAPE, CHAT, Objectives(ttft=0.001)) == 0
