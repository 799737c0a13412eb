"""INFaaS++: the baseline of Llumnix."""

from __future__ import annotations

from collections.abc import Callable

from tests.policies.fleet import Desk

Make = Callable[..., Desk]


def test_dispatches_to_the_least_memory_in_use_or_asked_for(desk: Make) -> None:
    work = desk("infaas", 3)
    first = {work.ask(64_000).engine, work.ask(6_400).engine}
    third = work.ask(640)
    assert first | {third.engine} == {0, 1, 2}
    assert work.ask(640).engine == third.engine
    work.run(third, emitted=20_000)
    assert work.ask(640).engine != third.engine


def test_by_reports_a_dispatch_counts_when_the_next_step_is_over(desk: Make) -> None:
    work = desk("infaas:reports=true", 2)
    work.run(work.ask(640))
    work.fleet.now = 5.0
    idle = {0, 1} - {body.id for body in work.fleet.bodies.values() if body.asks}
    assert {work.ask(6_400).engine for _ in range(3)} == idle
    work.fleet.now = 10.0
    assert {work.ask(640).engine} == {0, 1} - idle


def test_moves_nothing(desk: Make) -> None:
    work = desk("infaas", 2)
    work.run(work.ask(1_000_000))
    work.tick(1.0)
    assert [how for how, _, _ in work.fleet.done] == ["dispatch"]
