"""Costs learnt from steps: from a wrong prior to the engine's own times."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_protocol.messages import StepEvent
from coxswain_scheduler.costs.fitted import StepCost
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.timing import Timing, Work

PRIORS: list[Timing | None] = [None, profile("mocker").timing, profile("h100-llama-3-8b").timing]


def random_work(rng: random.Random) -> Work:
    prompt = rng.choice([0, 0, 0, rng.randrange(1, 4096)])
    start = rng.randrange(8192)
    decodes = rng.randrange(0 if prompt else 1, 128)
    return Work(prompt, prompt * start + prompt * (prompt + 1) // 2, decodes, decodes * rng.randrange(1, 4096))


def trained(prior: Timing | None, real: Timing, *, scale: float = 1.0, steps: int = 1500) -> StepCost:
    cost, rng = StepCost(floor_seconds=0.02, prior=prior), random.Random(7)
    for _ in range(steps):
        work = random_work(rng)
        cost.learn(work, scale * real.seconds(work))
    return cost


def mean_error(cost: Timing, real: Timing, *, scale: float = 1.0) -> float:
    works = [random_work(random.Random(seed)) for seed in range(300)]
    return sum(abs(cost.seconds(work) / (scale * real.seconds(work)) - 1) for work in works) / len(works)


def test_a_right_prior_is_right_from_the_first_step() -> None:
    real = profile("h100-llama-3-8b").timing
    assert mean_error(StepCost(prior=real), real) < 0.001


@pytest.mark.parametrize("engine", ["l40s-llama-3-8b", "a100-llama-2-7b"])
def test_a_wrong_prior_is_unlearnt(engine: str) -> None:
    prior, real = profile("h100-llama-3-8b").timing, profile(engine).timing
    before, after = mean_error(StepCost(prior=prior), real), mean_error(trained(prior, real), real)
    assert before > 0.4
    assert after < 0.12


def test_a_slowed_engine_is_noticed() -> None:
    real = profile("h100-llama-3-8b").timing
    cost = trained(real, real, scale=1.7)
    assert mean_error(cost, real, scale=1.7) < 0.02
    assert cost.error < 0.02


def test_without_a_prior_it_learns_too_and_knows_its_error() -> None:
    real = profile("a100-llama-2-7b").timing
    cost = trained(None, real)
    assert mean_error(cost, real) < 0.25
    assert cost.error == pytest.approx(mean_error(cost, real), abs=0.1)


def test_a_long_time_of_decoding_does_not_make_prompts_free() -> None:
    real = profile("h100-llama-3-8b").timing
    cost = trained(real, real)
    for _ in range(5000):
        cost.learn(Work(decodes=32, context=32_000), real.seconds(Work(decodes=32, context=32_000)))
    prompt = Work(2048, 2048 * 2049 // 2, 32, 32_000)
    assert cost.seconds(prompt) == pytest.approx(real.seconds(prompt), rel=0.1)


def test_a_report_is_learnt_from_like_the_work_behind_it() -> None:
    real = profile("l40s-llama-3-8b").timing
    reported, told = StepCost(floor_seconds=0.02), StepCost(floor_seconds=0.02)
    for number in range(100):
        start, prompt = 10 * number, 64 + number
        work = Work(prompt, prompt * start + prompt * (prompt + 1) // 2)
        told.learn(work, real.seconds(work))
        reported.observe(StepEvent(number, real.seconds(work), prompt, 0, start + prompt))
    assert reported.predict(100, 0, 600) == pytest.approx(told.seconds(Work(100, 100 * 500 + 5050)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PRIORS), st.integers(1, 300), st.integers(0, 500_000), st.integers(0, 60))
def test_a_run_lasts_as_long_as_its_steps(prior: Timing | None, decodes: int, context: int, steps: int) -> None:
    cost = trained(prior, profile("l40s-llama-3-8b").timing, steps=64)
    expected = sum(cost.seconds(Work(decodes=decodes, context=context + step * decodes)) for step in range(steps))
    assert cost.decode_seconds(decodes, context, steps) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PRIORS), st.integers(1, 300), st.integers(0, 500_000), st.floats(0, 30))
def test_the_most_steps_within_a_time_fit_and_one_more_does_not(
    prior: Timing | None, decodes: int, context: int, seconds: float
) -> None:
    cost = trained(prior, profile("l40s-llama-3-8b").timing, steps=64)
    steps = cost.decode_steps(decodes, context, seconds)
    assert cost.decode_seconds(decodes, context, steps) <= seconds
    assert cost.decode_seconds(decodes, context, steps + 1) > seconds
