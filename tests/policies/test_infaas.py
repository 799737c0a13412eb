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


def test_moves_nothing(desk: Make) -> None:
    work = desk("infaas", 2)
    work.run(work.ask(1_000_000))
    work.tick(1.0)
    assert [how for how, _, _ in work.fleet.done] == ["dispatch"]
