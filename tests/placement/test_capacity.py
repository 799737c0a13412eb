import math

import pytest

from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.transfer import Link
from coxswain_scheduler.interface import Objectives, Role
from coxswain_scheduler.placement.capacity import capacity
from coxswain_scheduler.placement.objectives import nearest
from coxswain_scheduler.placement.problem import Bucket

LOOSE, TIGHT = Objectives(ttft=2.0, inter_token=0.1), Objectives(ttft=0.5, inter_token=0.012)
CHAT = Bucket(input_tokens=1000, output_tokens=250, rate=1.0)
H100 = profile("h100-llama-3-8b")


@pytest.mark.parametrize("role", ["Serve", "Prefill", "Decode"])
def test_looser_objectives_allow_more(role: Role) -> None:
    assert 0 < capacity(H100, CHAT, TIGHT, role=role) < capacity(H100, CHAT, LOOSE, role=role)


def test_half_the_work_is_done_faster_than_all_of_it() -> None:
    whole = capacity(H100, CHAT, TIGHT)
    assert capacity(H100, CHAT, TIGHT, role="Prefill") > whole
    assert capacity(H100, CHAT, TIGHT, role="Decode") > whole


def test_decoding_stays_within_memory_and_sequences() -> None:
    rate = capacity(H100, CHAT, Objectives(ttft=60.0, inter_token=60.0), role="Decode")
    step = H100.timing.decode_seconds(H100.max_num_seqs, H100.max_num_seqs * 1125, 1)
    assert rate == pytest.approx(H100.max_num_seqs / (249 * step))


def test_a_prompt_larger_than_the_memory_is_not_served() -> None:
    huge = Bucket(input_tokens=10_000_000, output_tokens=10, rate=1.0)
    assert capacity(H100, huge, Objectives(ttft=1e9, inter_token=1e9)) == 0.0
    assert capacity(H100, huge, Objectives(ttft=1e9, inter_token=1e9), role="Prefill") == 0.0


def test_an_l4_cannot_decode_an_8b_model_in_bf16_within_40_ms() -> None:
    objectives = Objectives(ttft=10.0, inter_token=0.04)
    assert capacity(profile("l4-llama-3-8b"), CHAT, objectives) == 0.0
    assert capacity(profile("l4-llama-3-8b-int4"), CHAT, objectives) > 0.0


def test_answers_of_one_token_need_no_decoding() -> None:
    short = Bucket(input_tokens=1000, output_tokens=1, rate=1.0)
    assert 0 < capacity(H100, short, TIGHT) < math.inf
    assert capacity(H100, short, TIGHT, role="Decode") > capacity(H100, short, TIGHT)


def test_a_slow_link_eats_into_the_time_to_first_token() -> None:
    slow = Link(H100.kv_bytes_per_token * 1000 / 0.4)
    assert capacity(H100, CHAT, TIGHT, role="Prefill", link=slow) < capacity(H100, CHAT, TIGHT, role="Prefill")
    assert capacity(H100, CHAT, Objectives(ttft=0.4, inter_token=1.0), role="Prefill", link=slow) == 0.0


def test_the_nearest_objective_is_the_least_loosened() -> None:
    asked = Objectives(ttft=1.0, inter_token=0.01)
    assert nearest(asked, lambda given: given.inter_token >= 0.0123) == Objectives(ttft=1.0, inter_token=0.0123)
    assert nearest(asked, lambda given: given.ttft >= 3.0 or given.inter_token >= 0.02) == Objectives(
        ttft=1.0, inter_token=0.02
    )
    both = nearest(asked, lambda given: given.ttft >= 1.5 and given.inter_token >= 0.012)
    assert both == Objectives(ttft=1.5, inter_token=0.015)
    assert nearest(asked, lambda given: False) is None
