"""Splitwise's mixed pool."""

from __future__ import annotations

from collections.abc import Callable

from coxswain_scheduler.policies.splitwise import Splitwise
from tests.policies.fleet import Desk

Make = Callable[..., Desk]


def roles(work: Desk) -> list[str]:
    return [body.role for body in work.fleet.bodies.values()]


def test_prompt_and_answer_go_to_their_pools(desk: Make) -> None:
    work = desk("splitwise", 4)
    ask = work.ask(1000)
    assert ask.engine in (0, 1)
    work.fleet.admitted(ask, emitted=0)
    work.policy.prefilled(ask)
    assert ask.engine in (2, 3)
    assert roles(work) == ["Prefill", "Prefill", "Decode", "Decode"]


def test_a_full_prompt_pool_borrows_and_gives_back(desk: Make) -> None:
    work = desk("splitwise:prefill=1", 3)
    first = work.ask(8000)
    borrowed = work.ask(8000)
    assert (first.engine, borrowed.engine in (1, 2)) == (0, True)
    assert sorted(roles(work)) == ["Decode", "Prefill", "Serve"]
    if ("hold", borrowed.id, borrowed.engine) in work.fleet.done:
        work.fleet.admitted(borrowed, emitted=0)
        work.policy.prefilled(borrowed)
    for ask in (borrowed, first):
        work.end(ask)
    for body in work.fleet.bodies.values():
        work.policy.stepped(body)
    assert roles(work) == ["Prefill", "Decode", "Decode"]


def test_an_empty_engine_takes_a_prompt_of_any_length(desk: Make) -> None:
    assert desk("splitwise:prefill=1", 2).ask(50_000).engine == 0


def test_a_full_token_pool_borrows_a_prompt_engine(desk: Make) -> None:
    work = desk("splitwise:prefill=2", 3)
    work.fleet.bodies[2].total_blocks = 100
    work.ask(4000)
    assert roles(work) == ["Prefill", "Prefill", "Decode"]
    work.ask(4000)
    assert sorted(roles(work)) == ["Decode", "Prefill", "Serve"]


def test_reserves_by_the_answers_seen_not_by_the_one_to_come(desk: Make) -> None:
    work = desk("splitwise:prefill=1", 2)
    assert isinstance(work.policy, Splitwise)
    first = work.ask(1000)
    assert work.policy.reserved_tokens(1) == 1000 + 256
    first.emitted = 600
    work.end(first)
    assert work.policy.reserved_tokens(1) == 0
    work.ask(1000)
    assert work.policy.reserved_tokens(1) == 1000 + 600


def test_a_constant_can_be_reserved(desk: Make) -> None:
    work = desk("splitwise:prefill=1,output=50", 2)
    assert isinstance(work.policy, Splitwise)
    work.ask(1000)
    assert work.policy.reserved_tokens(1) == 1050
