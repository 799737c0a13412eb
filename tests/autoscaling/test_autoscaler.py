from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.autoscaling.autoscaler import Autoscaler
from coxswain_scheduler.autoscaling.counts import Counts
from coxswain_scheduler.autoscaling.goals import Decision, Goals
from coxswain_scheduler.autoscaling.observation import Answer, Observation
from tests.autoscaling.flows import OBJECTIVES, SHAPE, Flow

GOALS = Goals(objectives=OBJECTIVES, startup_seconds=180.0)


def decisions(observations: Iterable[Observation], goals: Goals = GOALS) -> list[Decision]:
    autoscaler = Autoscaler(SHAPE, goals)
    found = []
    for seen in observations:
        autoscaler.observe(seen)
        found.append(autoscaler.decide(seen.now))
    return found


def test_a_steady_flow_gets_what_the_cost_model_says_and_a_bounded_headroom() -> None:
    last = decisions(Flow(lambda _: 10.0).observations(7200))[-1]
    in_flight = 10.0 * 1000 * last.capacity.token_seconds
    needed = in_flight / last.capacity.sequences
    assert needed <= last.counts.serve <= 1.35 * needed + 1


def test_more_requests_get_more_engines() -> None:
    few = decisions(Flow(lambda _: 10.0).observations(3600))[-1].counts.serve
    many = decisions(Flow(lambda _: 80.0).observations(3600))[-1].counts.serve
    assert many >= 5 * few


def test_longer_answers_are_noticed_before_they_end() -> None:
    flow = Flow(lambda _: 10.0, output_tokens=500)
    before = list(flow.observations(3600))
    flow.output_tokens = 8000  # they take a minute and a half each from now on
    after = [replace(seen, now=seen.now + 3600) for seen in shifted(flow, 3600, 240)]
    found = decisions(before + after)
    assert found[-1].counts.serve >= 2 * found[len(before) - 1].counts.serve


def shifted(flow: Flow, offset: float, seconds: float) -> list[Observation]:
    flow._live = [(began - offset, total) for began, total in flow._live]
    return list(flow.observations(seconds))


def stepwise(rates: list[float]) -> Flow:
    """Another rate every five minutes."""
    return Flow(lambda t: rates[min(len(rates) - 1, int(t // 300))])


@settings(max_examples=20, deadline=None)
@given(
    rates=st.lists(st.floats(0.0, 30.0), min_size=4, max_size=8),
    cut=st.integers(1, 3),
    other=st.lists(st.floats(0.0, 30.0), min_size=4, max_size=8),
)
def test_equal_pasts_give_equal_decisions(rates: list[float], cut: int, other: list[float]) -> None:
    changed = rates[:cut] + other
    one = [decision.explain() for decision in decisions(stepwise(rates).observations(1500))]
    two = [decision.explain() for decision in decisions(stepwise(changed).observations(1500))]
    equal = int(cut * 300 / 15) - 1
    assert one[:equal] == two[:equal]


def test_what_will_be_there_when_an_engine_is_ready_counts_not_what_is_there_now() -> None:
    """Answers take two minutes, and the flow has begun a minute and a half ago: load is still to come."""
    flow = Flow(lambda t: 20.0 if t > 900 else 0.5, output_tokens=10_000)
    patient = replace(GOALS, startup_seconds=300.0)
    hasty = replace(GOALS, startup_seconds=5.0)
    observations = list(flow.observations(990))
    assert decisions(observations, patient)[-1].counts.serve > 1.5 * decisions(observations, hasty)[-1].counts.serve


def test_a_dip_shorter_than_the_startup_time_stops_nothing() -> None:
    flow = Flow(lambda t: 2.0 if 3600 < t <= 3660 else 20.0, output_tokens=200)
    found = decisions(flow.observations(3900))
    before = found[3600 // 15 - 1].counts.serve
    assert min(decision.counts.serve for decision in found[3600 // 15 :]) >= before - 1


def test_a_lasting_fall_stops_engines_but_never_below_what_is_forecast() -> None:
    found = decisions(Flow(lambda t: 60.0 if t < 3600 else 4.0).observations(7200))
    assert found[-1].counts.serve < 0.35 * found[3600 // 15 - 1].counts.serve
    for decision in found:
        assert decision.counts.serve >= decision.forecast / decision.capacity.sequences - 1e-6


def test_a_queue_adds_what_clears_it_in_good_time_not_what_would_hold_all_of_it() -> None:
    calm = list(Flow(lambda _: 10.0).observations(3600))
    last = calm[-1]
    queue = [*last.open, *[Answer(0, 60.0)] * 2000]
    queued = decisions([*calm, replace(last, now=last.now + 15, open=queue)])[-1]
    relaxed = decisions([*calm, replace(last, now=last.now + 15)])[-1]
    assert queued.counts.serve > relaxed.counts.serve
    assert queued.counts.serve < relaxed.counts.serve + 0.5 * 2000 / queued.capacity.sequences


def test_demand_is_the_requests_and_not_how_fast_engines_happen_to_be() -> None:
    """Twice the pace is half the sequences in flight, and asks for just as many engines."""
    fast = decisions(Flow(lambda _: 30.0, token_seconds=0.01).observations(3600))[-1]
    slow = decisions(Flow(lambda _: 30.0, token_seconds=0.02).observations(3600))[-1]
    assert slow.sequences == pytest.approx(fast.sequences, rel=0.05)


def test_missed_objectives_on_enough_engines_add_pressure() -> None:
    calm = list(Flow(lambda _: 60.0, ready=32).observations(7200))
    missed = [replace(seen, met=seen.judged * 9 // 10) for seen in calm]
    assert decisions(missed)[-1].pressure > 0.1 > decisions(calm)[-1].pressure == 0.0
    assert decisions(missed)[-1].counts.serve > decisions(calm)[-1].counts.serve


def test_engines_slower_than_their_model_are_more_in_number() -> None:
    usual = decisions(Flow(lambda _: 30.0, token_seconds=0.012, ready=16).observations(3600))[-1]
    slow = decisions(Flow(lambda _: 30.0, token_seconds=0.06, ready=16).observations(3600))[-1]
    assert slow.slowness > 1.2 > usual.slowness
    assert slow.counts.serve > usual.counts.serve


def test_to_zero_when_idle_and_back_at_the_first_request() -> None:
    goals = replace(GOALS, idle_after_seconds=600.0)
    flow = Flow(lambda t: 5.0 if t < 1200 else 0.0, output_tokens=100)
    autoscaler = Autoscaler(SHAPE, goals)
    counts = []
    for seen in flow.observations(3600):
        autoscaler.observe(seen)
        counts.append((seen.now, autoscaler.decide(seen.now).counts))
    idle = [now for now, count in counts if count == Counts()]
    assert 1800 <= idle[0] <= 1860
    assert counts[-1][1] == Counts()
    assert "idle" in autoscaler.explain()
    autoscaler.observe(Observation(now=3700.0, arrivals=[800], open=[Answer(0, 0.1)]))
    assert autoscaler.decide(3700.0).counts.serve >= 1


def test_without_idle_after_one_engine_stays() -> None:
    found = decisions(Flow(lambda t: 5.0 if t < 600 else 0.0, output_tokens=100).observations(7200))
    assert found[-1].counts == Counts(serve=1)


def test_a_split_service_gets_both_counts_from_its_objectives() -> None:
    goals = replace(GOALS, split=True)
    prompts = decisions(Flow(lambda _: 20.0, prompt_tokens=6000, output_tokens=100).observations(3600), goals)[
        -1
    ].counts
    answers = decisions(Flow(lambda _: 20.0, prompt_tokens=100, output_tokens=3000).observations(3600), goals)[
        -1
    ].counts
    assert prompts.serve == answers.serve == 0
    assert prompts.prefill > prompts.decode
    assert answers.decode > 5 * answers.prefill


def test_the_maximum_is_kept_and_shared_out_pro_rata() -> None:
    goals = replace(GOALS, split=True, maximum=6)
    counts = decisions(Flow(lambda _: 40.0, prompt_tokens=6000, output_tokens=2000).observations(3600), goals)[
        -1
    ].counts
    assert counts.total == 6
    assert counts.prefill >= 1
    assert counts.decode >= 1


def test_every_decision_says_why_in_one_line() -> None:
    line = decisions(Flow(lambda _: 10.0).observations(900))[-1].explain()
    assert "\n" not in line
    for word in ("serve", "sequences now", "forecast", "headroom", "per engine"):
        assert word in line


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(GOALS, attainment=1.0), "attainment is 1.0"),
        (lambda: replace(GOALS, startup_seconds=-1.0), "startup_seconds is -1.0"),
        (lambda: replace(GOALS, minimum=9, maximum=3), "minimum is 9"),
        (lambda: replace(GOALS, split=True, maximum=1), "at least two engines"),
    ],
)
def test_goals_that_make_no_sense_are_refused(make: Callable[[], Goals], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
