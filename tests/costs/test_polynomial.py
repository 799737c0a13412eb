"""Timing by polynomials: the closed forms are the sums of single steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.costs.polynomial import PolynomialTiming, Quadratic
from coxswain_scheduler.costs.timing import Work

MOCKER: dict[str, Any] = {
    "prefill": {"a": 4.209989e-07, "b": 0.01518344, "c": 16.50142},
    "decode": {"a": -25.74, "b": 54.01, "c": 5.74},
    "num_gpu_blocks": 16384,
    "block_size": 64,
}
TIMING = PolynomialTiming.from_mapping(MOCKER)
TOTAL = 16384 * 64

coefficients = st.floats(-100.0, 100.0, allow_subnormal=False)
timings = st.builds(
    lambda a, b, c: PolynomialTiming(TIMING.prefill, Quadratic(a / 1000, b / 1000, c / 1000), 20_000),
    coefficients,
    coefficients,
    coefficients,
)


def one_by_one(timing: PolynomialTiming, decodes: int, context: int, steps: int) -> float:
    return sum(timing.seconds(Work(decodes=decodes, context=context + step * decodes)) for step in range(steps))


def test_a_step_lasts_what_its_two_parts_do() -> None:
    prefill = TIMING.seconds(Work(prefill_tokens=4096))
    decode = TIMING.seconds(Work(decodes=8, context=TOTAL // 2))
    assert prefill == pytest.approx((4.209989e-07 * 4096**2 + 0.01518344 * 4096 + 16.50142) / 1000)
    assert decode == pytest.approx((-25.74 / 4 + 54.01 / 2 + 5.74) / 1000)
    assert TIMING.seconds(Work(prefill_tokens=4096, decodes=8, context=TOTAL // 2)) == pytest.approx(prefill + decode)
    assert TIMING.seconds(Work()) == 0.0


@given(decodes=st.integers(1, 256), context=st.integers(0, TOTAL // 2), steps=st.integers(0, 400))
def test_a_run_lasts_as_long_as_its_steps(decodes: int, context: int, steps: int) -> None:
    expected = one_by_one(TIMING, decodes, context, steps)
    assert TIMING.decode_seconds(decodes, context, steps) == pytest.approx(expected, rel=1e-9)


def test_sequences_that_share_a_prefix_never_hold_more_than_everything() -> None:
    full = TIMING.seconds(Work(decodes=8, context=TOTAL))
    assert full == pytest.approx(0.03401)
    assert TIMING.seconds(Work(decodes=8, context=2 * TOTAL)) == full
    assert TIMING.decode_seconds(8, 2 * TOTAL, 100) == pytest.approx(100 * full)
    assert TIMING.decode_steps(8, 2 * TOTAL, 100.5 * full) == 100


@given(decodes=st.integers(1, 256), short=st.integers(0, 9_000), steps=st.integers(0, 400))
def test_a_run_lasts_as_long_as_its_steps_where_the_kv_fills_up_in_it(decodes: int, short: int, steps: int) -> None:
    expected = one_by_one(TIMING, decodes, TOTAL - short, steps)
    assert TIMING.decode_seconds(decodes, TOTAL - short, steps) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=300)
@given(timing=timings, decodes=st.integers(1, 64), context=st.integers(0, 30_000), steps=st.integers(0, 300))
def test_a_run_lasts_as_long_as_its_steps_where_some_are_at_the_floor(
    timing: PolynomialTiming, decodes: int, context: int, steps: int
) -> None:
    expected = one_by_one(timing, decodes, context, steps)
    assert timing.decode_seconds(decodes, context, steps) == pytest.approx(expected, rel=1e-8)


@settings(max_examples=300)
@given(
    timing=st.just(TIMING) | timings,
    decodes=st.integers(1, 64),
    context=st.integers(0, 30_000) | st.integers(TOTAL - 20_000, TOTAL + 20_000),
    seconds=st.floats(0, 20),
)
def test_the_most_steps_within_a_time_fit_and_one_more_does_not(
    timing: PolynomialTiming, decodes: int, context: int, seconds: float
) -> None:
    steps = timing.decode_steps(decodes, context, seconds)
    assert timing.decode_seconds(decodes, context, steps) <= seconds
    assert timing.decode_seconds(decodes, context, steps + 1) > seconds


def test_steps_that_nobody_takes_have_no_number() -> None:
    with pytest.raises(ValueError, match="needs a sequence"):
        TIMING.decode_steps(0, 0, 1.0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("prefill",), None, "prefill: expected an object"),
        (("prefill", "b"), "fast", "prefill.b: expected a number, got 'fast'"),
        (("prefill", "c"), -1.0, "prefill.c: must not be negative"),
        (("decode", "a"), float("nan"), "decode.a: expected a number"),
        (("decode", "c"), True, "decode.c: expected a number"),
        (("num_gpu_blocks",), 0, "num_gpu_blocks: expected a positive whole number, got 0"),
        (("block_size",), 64.5, "block_size: expected a positive whole number"),
    ],
)
def test_a_wrong_field_is_named(path: tuple[str, ...], value: object, message: str) -> None:
    document = copy.deepcopy(MOCKER)
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(ValueError, match=f"^{message}"):
        PolynomialTiming.from_mapping(document)
