"""Round robin on the mocker's timing is Dynamo 1.6.1's own replay, to the request (benchmarks/data/peer_runs)."""

from __future__ import annotations

import pytest

from coxswain_scheduler.costs.polynomial import PolynomialTiming
from coxswain_scheduler.policies.registry import create
from coxswain_scheduler.simulator.results import quantile
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.simulation import replay
from coxswain_simulate.traces.loading import load
from tests.simulate.conftest import CONVERSATION, MOCKER


def test_round_robin_on_the_conversation_trace() -> None:
    engine = EngineSpec(timing=PolynomialTiming.from_mapping(MOCKER))
    result = replay(load(CONVERSATION, "mooncake"), Setup(engines=(engine,) * 8), create("round-robin"))
    assert result.good == 11_843
    assert result.prefix_reuse == pytest.approx(0.08174, abs=5e-6)
    times = result.values(lambda one: one.ttft)
    assert quantile(times, 0.5) == pytest.approx(0.18413, abs=2e-5)
    assert quantile(times, 0.99) == pytest.approx(2.04846, rel=0.002), "Dynamo takes the nearest rank"


def test_preemption_and_recovery_in_overloaded_decode_engines() -> None:
    engine = EngineSpec(timing=PolynomialTiming.from_mapping(MOCKER), mocker=True)
    setup = Setup(engines=(engine,) * 8, speedup=6.0)
    result = replay(load(CONVERSATION, "mooncake"), setup, create("round-robin:prefill=5"))
    assert result.good == 3_386
    assert result.preemptions == 195
    assert result.prefix_reuse == pytest.approx(0.08333, abs=5e-6)
    times = result.values(lambda one: one.ttft)
    assert quantile(times, 0.5) == pytest.approx(4.17996, abs=2e-5)
    assert quantile(times, 0.99) == pytest.approx(17.33626, rel=0.001), "Dynamo takes the nearest rank"
    between = result.values(lambda one: one.inter_token)
    assert quantile(between, 0.99) == pytest.approx(0.05655, rel=0.001)
