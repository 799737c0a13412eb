"""Stages of workflows come after those that they need."""

from __future__ import annotations

import pytest

from coxswain_scheduler.interface import Request
from tests.simulator.world import Written, ask, play


def test_a_stage_arrives_when_all_that_it_is_after_have_ended_and_its_deadline_counts_from_there() -> None:
    requests = [
        ask(0, 1000, 1, workflow="w"),
        ask(1, 2000, 1, workflow="w"),
        ask(2, 500, 1, at=0.4, workflow="w", after=(0, 1), deadline=0.6),
        ask(3, 100, 1, workflow="w", after=(2,)),
    ]
    result, _ = play(requests, Written({1: 1}), speedup=2.0)
    third, fourth = result.outcomes[2:]
    assert third.arrival == pytest.approx(2.2), "think time is divided by the speed-up as arrivals are"
    assert third.ended == pytest.approx(2.7) and third.deadline == pytest.approx(2.8)
    assert third.good(result.objectives)
    assert fourth.arrival == pytest.approx(2.7) and fourth.ended == pytest.approx(2.8)


def test_after_a_stage_that_was_refused_the_rest_is_never_sent() -> None:
    class Refuses(Written):
        def arrived(self, request: Request) -> None:
            self.told.append(("arrived", request.id))
            self.cluster.shed(request, "full")

    policy = Refuses()
    result, _ = play([ask(0, 100, 1), ask(1, 100, 1, after=(0,)), ask(2, 100, 1, after=(1, 0))], policy)
    assert policy.told == [("begin", 0), ("arrived", 0)]
    assert result.shed == 3
    assert result.outcomes[1].shed == "request 0, which it was to follow, was not answered"


def test_a_stage_held_by_a_scheduler_that_restarts_is_given_to_it_again() -> None:
    class Holds(Written):
        def arrived(self, request: Request) -> None:
            if request.id == 0 or self.cluster.now > 5:
                self.cluster.dispatch(request, 0)

    result, _ = play([ask(0, 100, 1), ask(1, 100, 1, after=(0,))], Holds(), restarts=(10.0,))
    assert result.outcomes[1].ended == pytest.approx(10.1)
