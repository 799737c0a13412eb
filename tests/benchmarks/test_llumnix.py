"""Llumnix's experiments: what is run, what is said of it, and what preemption costs."""

from __future__ import annotations

from benchmarks.llumnix_page import page
from benchmarks.llumnix_runs import (
    BASELINE,
    DESCRIBED,
    HIGHEST,
    INFORMED,
    OURS,
    THEIRS,
    Figures,
    Run,
    alone_seconds,
    runs,
    simulate,
)
from benchmarks.preemption import Watched
from coxswain_scheduler.policies.registry import create
from tests.policies.fleet import Ask
from tests.scheduler.engines import fleet

RUNS = runs(100, range(3), every=3)


def figures(seconds: float) -> Figures:
    names = ("mean end-to-end", "P99 end-to-end", "mean prefill", "P99 prefill", "P99 decode", "preemption loss")
    return dict.fromkeys((*names, "preemptions", "refused", "high", "others", "high alone"), seconds)


def test_both_sides_run_on_the_same_requests_and_each_run_is_run_once() -> None:
    assert len(set(RUNS)) == len(RUNS)
    for lengths, rate in HIGHEST.items():
        for policy in (OURS, THEIRS, INFORMED):
            seeds = [run.seed for run in RUNS if run[:3] == (policy, lengths, rate) and not run.high]
            assert seeds == [0, 1, 2]


def test_the_page_says_where_it_falls_short() -> None:
    seconds = {BASELINE: 2.0, DESCRIBED: 3.0, THEIRS: 1.0, INFORMED: 0.8, OURS: 0.9}
    found = {run: figures(seconds[run.policy] * (1.6 if run.ignored else 1.0)) for run in RUNS}
    text = page(found, "a command", range(3))
    assert "| P99 decode, up to | ×2.00 | ×2.0 | yes | ×1.61 | ×3.00 |" in text
    assert "| P99 prefill, up to | ×2.00 | ×14.8 | **no** | ×15.63 | ×3.00 |" in text
    assert "| preemption loss reduced by, mean | 50.0% | 70.4% | yes | 99.98% | 66.7% |" in text
    assert "0.500 of the loss is left in the mean of the runs, 0.296 in the paper" in text
    assert "| 512_128 | P99 prefill | 0.900 | 1.000 | yes | 0.800 | **no** |" in text
    assert "| 8 | 0.90 | 1.44 | ×1.60 |" in text


def test_a_run_is_simulated_with_the_options_of_its_policy() -> None:
    for policy in (THEIRS, INFORMED, BASELINE, DESCRIBED):
        found = simulate(Run(policy, "128_512", 4.6, 0, 30))
        assert found["refused"] == 0.0 < found["mean prefill"] < found["mean end-to-end"]


def test_alone_a_request_takes_its_prefill_and_its_steps() -> None:
    one, two, three = (alone_seconds(100, tokens) for tokens in (1, 2, 3))
    assert 0.01 < one < two < three < 1.0


def test_preemption_costs_from_the_step_that_preempts_to_the_one_that_computes_anew() -> None:
    engines = fleet(1)
    body, policy = engines.bodies[0], Watched(create("round-robin"))
    policy.begin(engines)
    request = Ask(1, 100)
    policy.arrived(request)
    engines.admitted(request, emitted=9)
    engines.now = 5.0
    body.running = 0  # it has been preempted, with 9 tokens emitted
    policy.stepped(body)
    engines.now = 7.5
    policy.stepped(body)
    assert policy.loss_seconds == 0.0
    body.running = 1
    policy.stepped(body)
    assert policy.loss_seconds == 2.5
    policy.ended(request)
    assert policy.loss_seconds == 2.5
