"""KV between engines: the worked examples of common links, and the rule of move or compute again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.transfer import (
    LINKS,
    Link,
    break_even_bandwidth,
    exposed_seconds,
    migration,
    moving_pays,
    recompute_seconds,
)

KIB = 1024
SIZE = 4096 * 128 * KIB  # 4,096 tokens of Llama-3-8B


@pytest.mark.parametrize(
    ("link", "milliseconds"),
    [("nvlink-h100", 1.5), ("infiniband-400g", 12), ("pcie4", 21), ("ethernet-100g", 49), ("ethernet-25g", 192)],
)
def test_a_prompt_takes_as_long_as_its_link_is_wide(link: str, milliseconds: float) -> None:
    assert Link(LINKS[link], round_trip_seconds=0).seconds(SIZE) * 1e3 == pytest.approx(milliseconds, rel=0.03)


def test_nothing_and_an_infinite_link_take_no_time() -> None:
    assert Link(1e9).seconds(0) == 0
    assert Link(float("inf")).seconds(SIZE) == 0


@given(st.floats(1e9, 1e12), st.floats(0, 10), st.integers(1, 100))
def test_sending_by_layers_hides_some_but_never_the_last(rate: float, prefill: float, layers: int) -> None:
    link = Link(rate)
    exposed = exposed_seconds(link, SIZE, layers=layers, prefill_seconds=prefill)
    assert link.seconds(SIZE / layers) <= exposed <= link.seconds(SIZE)


@pytest.mark.parametrize(("engine", "pays"), [("h100-llama-3-8b", False), ("l4-llama-3-8b", True)])
def test_over_a_narrow_link_a_fast_gpu_computes_and_a_slow_one_moves(engine: str, pays: bool) -> None:
    found = profile(engine)
    assert (
        moving_pays(
            found.timing,
            Link(LINKS["ethernet-25g"]),
            start=0,
            tokens=4096,
            kv_bytes_per_token=128 * KIB,
            step_tokens=found.step_tokens,
        )
        is pays
    )


def test_at_the_break_even_bandwidth_both_take_as_long() -> None:
    timing = profile("h100-llama-3-8b").timing
    rate = break_even_bandwidth(timing, tokens=4096, kv_bytes_per_token=128 * KIB, step_tokens=8192)
    computing = recompute_seconds(timing, start=0, tokens=4096, step_tokens=8192)
    assert Link(rate, round_trip_seconds=0).seconds(SIZE) == pytest.approx(computing)


class TestMigration:
    def test_the_pause_is_shorter_than_a_step_whatever_the_length(self) -> None:
        for context in (100, 4096, 100_000):
            plan = migration(
                Link(11e9), context=context, kv_bytes_per_token=128 * KIB, step_seconds=0.01, block_size=16
            )
            assert plan is not None
            assert plan.paused_seconds < 0.01
            assert plan.stages <= 3

    def test_a_short_sequence_moves_in_its_pause(self) -> None:
        plan = migration(Link(11e9), context=8, kv_bytes_per_token=128 * KIB, step_seconds=0.01, block_size=16)
        assert plan is not None
        assert (plan.stages, plan.copying_seconds) == (1, 0)

    def test_what_is_written_faster_than_sent_never_arrives(self) -> None:
        slow = Link(1e7)
        assert migration(slow, context=4096, kv_bytes_per_token=128 * KIB, step_seconds=0.01, block_size=16) is None
