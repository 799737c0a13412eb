"""DistServe's search of the split."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from coxswain_scheduler.costs.timing import Timing
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.policies.distserve import Sample, attained, highest_rate
from tests.policies.conftest import DECODE
from tests.policies.fleet import Body, Desk

Make = Callable[..., Desk]


def run(desk: Make, prompt: int, output: int) -> list[str]:
    """The roles of four engines after fifty requests of one size."""
    work = desk("distserve:sample=50", 4)
    for _ in range(50):
        ask = work.ask(prompt)
        work.fleet.admitted(ask, emitted=0)
        work.policy.prefilled(ask)
        ask.emitted = output
        work.end(ask)
    return [body.role for body in work.fleet.bodies.values()]


def test_long_prompts_get_more_prefill_engines(desk: Make) -> None:
    assert run(desk, 20_000, 10) == ["Prefill", "Prefill", "Prefill", "Decode"]


def test_long_answers_get_more_decode_engines(desk: Make) -> None:
    assert run(desk, 2000, 3000) == ["Prefill", "Decode", "Decode", "Decode"]


def test_searches_once(desk: Make) -> None:
    work = desk("distserve:sample=5", 4)
    for prompt, output in [(20_000, 10)] * 5 + [(2000, 3000)] * 20:
        ask = work.ask(prompt)
        work.fleet.admitted(ask, emitted=0)
        work.policy.prefilled(ask)
        ask.emitted = output
        work.end(ask)
    assert [body.role for body in work.fleet.bodies.values()].count("Prefill") == 3


def test_the_simulation_of_one_request_is_the_cost_model(timing: Timing) -> None:
    body, sample = Body(0, timing), Sample(0.5, 10_000, 101)
    seconds = timing.decode_seconds(1, 10_000, 100)
    just = Objectives(ttft=0.5, inter_token=seconds / 100 + 1e-9)
    assert attained([sample], [1.0], (1, 1), body, just) == 1.0
    assert attained([sample], [1.0], (1, 1), body, Objectives(ttft=0.49, inter_token=1.0)) == 0.0
    tight = Objectives(ttft=1.0, inter_token=DECODE(10_000 / 1_048_576))
    assert attained([sample], [1.0], (1, 1), body, tight) == 0.0


def test_twice_the_engines_bear_about_twice_the_rate(timing: Timing) -> None:
    samples = [Sample(0.2, 10_000, 200)]
    one, two = (highest_rate(samples, split, Body(0, timing), Objectives(), Random(0)) for split in ((2, 2), (4, 4)))
    assert two == pytest.approx(2 * one, rel=0.25)
