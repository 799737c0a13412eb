"""Mooncake's Conductor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coxswain_scheduler.costs.timing import Timing
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.policies.base import prefill_seconds
from tests.policies.conftest import PREFILL
from tests.policies.fleet import Body, Desk, Fleet

Make = Callable[..., Desk]


def test_prefill_is_counted_in_chunks(timing: Timing) -> None:
    body = Body(0, timing)
    assert prefill_seconds(body, 20_000, 1000) == pytest.approx(2 * PREFILL(8192) + PREFILL(19_000 - 2 * 8192))
    assert prefill_seconds(body, 100, 100) == pytest.approx(PREFILL(1))  # the last token is always computed


def test_weighs_the_queue_against_the_prefix(desk: Make) -> None:
    work = desk("mooncake")
    busy = work.ask(20_000).engine
    assert busy in (0, 1)
    assert work.ask(8000, held={busy: 4000}).engine == 1 - busy
    assert work.ask(70_000, held={busy: 60_000}).engine == busy


def test_refuses_before_the_prefill_what_would_be_late(desk: Make) -> None:
    work = desk("mooncake:prefill=1", 2)
    asks = [work.ask(20_000) for _ in range(8)]
    shed = [ask for ask in asks if ask.engine is None]
    assert 2 <= len(shed) <= 6
    assert "predicted TTFT" in work.fleet.reasons[shed[0].id]
    assert "refused" in work.policy.explain(shed[0])
    assert asks[0].engine == 0


def test_refuses_when_decoding_would_be_slow(timing: Timing) -> None:
    work = Desk("mooncake", Fleet(timing, 2, objectives=Objectives(ttft=100.0, inter_token=0.01)))
    asks = [work.ask(20_000) for _ in range(10)]
    refused = [ask for ask in asks if ask.engine is None]
    assert refused and "inter-token time" in work.fleet.reasons[refused[0].id]


def test_rejection_can_be_turned_off(desk: Make) -> None:
    work = desk("mooncake:prefill=1,reject=false", 2)
    assert all(work.ask(20_000).engine == 0 for _ in range(30))


def test_never_refuses_what_has_emitted(desk: Make) -> None:
    work = desk("mooncake", 4)
    asks = [work.ask(90_000 // 4) for _ in range(6)]
    for ask in asks:
        if ask.engine is not None:
            work.run(ask)
    running = [ask for ask in asks if ask.engine == 0]
    work.lose(0)
    assert running and all(ask.engine is not None for ask in running)


def test_decodes_where_it_booked_unless_that_engine_is_gone(desk: Make) -> None:
    work = desk("mooncake", 4)
    first, second = work.ask(3000), work.ask(3000)
    for ask in (first, second):
        work.fleet.admitted(ask, emitted=0)
    work.policy.prefilled(first)
    assert first.engine in (2, 3)
    booked_by_second = 5 - first.engine  # the other one, as the first's booking counted
    work.lose(booked_by_second)
    work.policy.prefilled(second)
    assert second.engine == first.engine


def test_predicts_that_decodes_will_have_ended(desk: Make) -> None:
    def gap(predict: str) -> float:
        work = desk(f"mooncake:prefill=1,predict={predict}", 2)
        for _ in range(5):
            ask = work.ask(1000)
            work.fleet.admitted(ask, emitted=0)
            work.policy.prefilled(ask)
            work.fleet.now += 0.5
            work.end(ask)
        running = work.ask(100_000 // 4)
        work.fleet.admitted(running, emitted=0)
        work.policy.prefilled(running)
        work.policy.stepped(work.fleet.bodies[1])
        work.fleet.now += 10.0
        return work.policy._inter_token(work.fleet.bodies[1], work.ask(100), 1.0)  # type: ignore[attr-defined,no-any-return]

    assert gap("true") < gap("false")
