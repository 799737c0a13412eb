from coxswain_scheduler.autoscaling.autoscaler import Autoscaler
from coxswain_scheduler.autoscaling.goals import Goals
from coxswain_scheduler.autoscaling.rooms import Rooms
from coxswain_scheduler.autoscaling.scaled import Fixed, Scaled
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.simulator.results import Result
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.simulation import Simulation
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from tests.autoscaling.flows import H100, OBJECTIVES, SHAPE


def spec(startup: float = 60.0) -> EngineSpec:
    return EngineSpec(
        timing=H100.timing,
        total_blocks=H100.total_blocks,
        block_size=H100.block_size,
        max_num_seqs=H100.max_num_seqs,
        step_tokens=H100.step_tokens,
        startup_seconds=startup,
    )


def trace(*parts: tuple[float, float, float], output: int = 400) -> Trace:
    """Parts of (from, to, requests per second)."""
    arrivals = [begin + k / rate for begin, end, rate in parts for k in range(int((end - begin) * rate))]
    return Trace(
        "made",
        tuple(
            TraceRequest(id=n, arrival=arrival, prompt_tokens=300, output_tokens=output)
            for n, arrival in enumerate(arrivals)
        ),
    )


def simulated(requests: Trace, policy: Scaled, *, engines: int, objectives: Objectives = OBJECTIVES) -> Result:
    return Simulation(requests, Setup(engines=(spec(),) * engines, objectives=objectives), policy).run()


def test_the_simulator_runs_the_autoscaler_and_the_objectives_hold() -> None:
    goals = Goals(objectives=OBJECTIVES, startup_seconds=60.0)
    policy = Scaled(Rooms(), Autoscaler(SHAPE, goals))
    result = simulated(trace((0, 1500, 4.0)), policy, engines=4)
    assert result.good >= 0.99 * len(result.outcomes)
    assert policy.counts[-1][1] == 1
    assert policy.why


def test_engines_that_leave_lose_nothing() -> None:
    policy = Scaled(Rooms(), Fixed(lambda now: 4 if now < 100 else 1))
    result = simulated(trace((0, 150, 4.0), output=2000), policy, engines=4)
    assert all(outcome.ended is not None for outcome in result.outcomes)
    assert result.moves > 0
    ready = {int(when): engines for when, engines, _, _ in result.load}
    assert ready[90] == 4
    assert ready[125] == 1


def test_an_engine_that_is_not_wanted_any_more_does_not_start() -> None:
    policy = Scaled(Rooms(), Fixed(lambda now: 3 if 40 < now < 80 else 1))
    result = simulated(trace((0, 200, 2.0)), policy, engines=1)
    assert max(starting for _, _, starting in policy.counts) == 2
    assert max(engines for _, engines, _, _ in result.load) == 1
    for_nothing = result.engine_seconds - result.virtual_s
    assert 2 * 30.0 <= for_nothing <= 2 * 50.0


def test_from_zero_requests_are_held_until_an_engine_is_ready() -> None:
    goals = Goals(objectives=OBJECTIVES, startup_seconds=60.0, idle_after_seconds=120.0)
    policy = Scaled(Rooms(), Autoscaler(SHAPE, goals))
    result = simulated(trace((0, 60, 2.0), (900, 905, 1.0)), policy, engines=1)
    assert (0, 0) in {(ready, starting) for _, ready, starting in policy.counts}
    late = [outcome for outcome in result.outcomes if outcome.arrival >= 900]
    assert all(outcome.ended is not None for outcome in late)
    assert 55.0 <= (late[0].ttft or 0.0) <= 62.0


def test_held_requests_are_refused_in_the_end() -> None:
    policy = Scaled(Rooms(), Fixed(lambda _: 0), hold_seconds=30.0)
    result = simulated(trace((100, 101, 2.0)), policy, engines=1)
    assert {outcome.shed for outcome in result.outcomes} == {"no engine within 30 s"}


def test_an_overload_costs_only_those_that_are_too_many() -> None:
    """A third more than one engine carries: most are answered in time, and the others late."""
    result = simulated(trace((0, 200, 40.0), output=300), Scaled(Rooms(), Fixed(lambda _: 1)), engines=1)
    assert 0.5 < result.good / len(result.outcomes) < 1.0
    assert all(outcome.ended is not None for outcome in result.outcomes)
