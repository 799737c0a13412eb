"""What holds for every policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coxswain_scheduler.policies.base import Baseline
from coxswain_scheduler.policies.registry import POLICIES, create, defaults
from tests.policies.fleet import Desk

BASELINES = [name for name, factory in POLICIES.items() if isinstance(factory, type) and issubclass(factory, Baseline)]
every = pytest.mark.parametrize("name", BASELINES)
Make = Callable[..., Desk]


@every
def test_a_request_is_dispatched_once_and_its_end_leaves_nothing_behind(name: str, desk: Make) -> None:
    work = desk(name)
    for _ in range(20):
        ask = work.ask()
        assert ask.engine is not None
        work.fleet.admitted(ask, emitted=0)
        if ("hold", ask.id, ask.engine) in work.fleet.done:
            work.policy.prefilled(ask)
        ask.emitted = 5
        work.end(ask)
    assert [work.policy.flights[engine].count for engine in range(4)] == [0, 0, 0, 0]
    assert [work.policy.flights[engine].tokens for engine in range(4)] == [0, 0, 0, 0]


@every
def test_when_an_engine_dies_its_requests_go_to_others(name: str, desk: Make) -> None:
    work = desk(name)
    asks = [work.ask() for _ in range(12)]
    dead = asks[0].engine
    assert dead is not None
    work.lose(dead)
    assert all(ask.engine not in (None, dead) for ask in asks)


@every
def test_while_no_engine_lives_requests_wait_for_one(name: str, desk: Make) -> None:
    work = desk(name, 2)
    first = work.fleet.bodies[1]
    work.lose(0)
    work.lose(1)
    ask = work.ask()
    assert ask.engine is None
    work.fleet.bodies[1] = first
    work.policy.joined(first)
    assert ask.engine == 1


@every
def test_a_cancelled_request_that_waits_is_forgotten(name: str, desk: Make) -> None:
    work = desk(name, 2)
    body = work.fleet.bodies[0]
    work.lose(0)
    work.lose(1)
    ask = work.ask()
    work.policy.ended(ask)
    work.fleet.bodies[0] = body
    work.policy.joined(body)
    assert ask.engine is None and work.fleet.done == []


@every
def test_a_restarted_scheduler_counts_what_its_engines_run(name: str, desk: Make) -> None:
    work = desk(name)
    asks = [work.ask() for _ in range(8)]
    work.policy = _again(name)
    work.policy.begin(work.fleet)
    assert sum(work.policy.flights[engine].count for engine in range(4)) == 8
    for ask in asks:
        work.end(ask)
    assert sum(work.policy.flights[engine].count for engine in range(4)) == 0


@every
def test_explains_in_one_line_where_a_request_went(name: str, desk: Make) -> None:
    ask = (work := desk(name)).ask()
    line = work.policy.explain(ask)
    assert "\n" not in line
    assert f"engine {ask.engine} by" in line


@every
def test_the_same_seed_decides_the_same(name: str, desk: Make) -> None:
    def decisions(seed: int) -> list[tuple[str, int, int | None]]:
        work = desk(name, seed=seed)
        for _ in range(40):
            work.ask()
        return work.fleet.done

    assert decisions(1) == decisions(1)


def test_options_are_read_as_their_defaults_types() -> None:
    policy = create("sglang-cache-aware:prefill=5,cache_threshold=0.5,balance_abs=32")
    assert (policy.prefill, policy.cache_threshold, policy.balance_abs) == (5, 0.5, 32)  # type: ignore[attr-defined]
    assert create("llumnix:scale=true").scale is True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fastest", "policy 'fastest': unknown; there are .*round-robin"),
        ("round-robin:turns=3", "policy round-robin: no option 'turns'; there are prefill, seed"),
        ("round-robin:prefill=many", "policy round-robin: prefill='many' is not a whole number"),
        ("static:prefix=2", "policy static: prefix='2' is not true or false"),
        ("round-robin:prefill=-1", "prefill=-1: must not be negative"),
        ("hpa:metric=cpu", "policy hpa: metric='cpu' is not kv or requests"),
    ],
)
def test_says_what_is_wrong_with_a_name(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        create(spec)


def test_a_split_needs_an_engine_that_decodes(desk: Make) -> None:
    with pytest.raises(ValueError, match="leaves none of 4 engines to decode"):
        desk("round-robin:prefill=4")


@every
def test_every_option_has_a_default(name: str) -> None:
    assert all(isinstance(value, int | float | str | bool) for value in defaults(POLICIES[name]).values())


def _again(name: str) -> Baseline:
    policy = create(name)
    assert isinstance(policy, Baseline)
    return policy
