"""What Coxswain's own policy decides, seen one decision at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coxswain_scheduler.costs.polynomial import PolynomialTiming
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.policies.coxswain import Coxswain
from tests.policies.fleet import Ask, Fleet

Open = Callable[..., "Counter"]


class Counter:
    """The policy in front of a fleet, whose engines compute nothing until the test says so."""

    def __init__(self, fleet: Fleet, **options: float) -> None:
        self.fleet = fleet
        self.policy = Coxswain(**options)  # type: ignore[arg-type]
        self.policy.begin(fleet)
        self._made = 0

    def ask(self, tokens: int = 1000, *, held: dict[int, int] | None = None, **known: object) -> Ask:
        ask = Ask(self._made, tokens, self.fleet.now, **known)  # type: ignore[arg-type]
        self._made += 1
        self.fleet.held[ask.id] = held or {}
        self.policy.arrived(ask)
        return ask

    def free(self, engine: int) -> None:
        """What the engine had is done, and it says so."""
        body = self.fleet.bodies[engine]
        for ask in list(body.asks):
            self.fleet.leave(ask)
            self.policy.ended(ask)
        self.policy.stepped(body)


@pytest.fixture
def counter(timing: PolynomialTiming) -> Open:
    def make(engines: int = 2, *, ttft: float = 2.0, link: float = 0.0, **options: float) -> Counter:
        fleet = Fleet(timing, engines, objectives=Objectives(ttft=ttft))
        fleet.link_bytes_per_second = link
        return Counter(fleet, **options)

    return make


def test_a_prompt_goes_where_most_of_it_is_cached(counter: Open) -> None:
    assert counter(3).ask(8000, held={1: 1024, 2: 4096}).engine == 2


def test_prompts_wait_until_an_engine_can_begin_and_then_the_one_that_must_start_first_goes(counter: Open) -> None:
    at = counter(1)
    at.ask(8000)
    short, long = at.ask(500), at.ask(60_000)
    assert (short.engine, long.engine) == (None, None)
    at.free(0)
    assert long.engine == 0, "its prefill takes a second of the two that it has"
    assert short.engine is None


def test_a_high_priority_goes_first(counter: Open) -> None:
    at = counter(1)
    at.ask(8000)
    usual, urgent = at.ask(9000), at.ask(500, priority=1)
    at.free(0)
    assert (usual.engine, urgent.engine) == (None, 0)


def test_high_priorities_find_their_host_among_many_engines(counter: Open) -> None:
    at = counter(40, link=25e9)

    def decode(tokens: int = 1000, priority: int = 0) -> Ask:
        at.fleet.now += 0.5
        ask = at.ask(tokens, priority=priority)
        assert ask.engine is not None
        at.fleet.admitted(ask, emitted=1)
        at.policy.stepped(at.fleet.bodies[ask.engine])
        return ask

    first = decode(priority=1)
    others = [decode() for _ in range(120)]
    at.policy.tick()
    assert decode(200, priority=1).engine == first.engine, "its prefill hardly stalls the other"
    assert first.engine not in {other.engine for other in others}


def test_what_would_make_others_late_is_refused_the_longest_first(counter: Open) -> None:
    at = counter(1, floor=0.0)
    at.ask(8000)
    waiting = [at.ask(tokens) for tokens in (9000, 70_000, 9000, 9000, 9000)]
    refused = [ask.id for what, id_, _ in at.fleet.done for ask in waiting if what == "shed" and ask.id == id_]
    assert refused == [waiting[1].id]
    assert "longer than the objective allows" in at.fleet.reasons[waiting[1].id]


def test_no_length_is_refused_below_its_floor(counter: Open) -> None:
    at = counter(1, floor=1.0)
    at.ask(8000)
    for tokens in (9000, 70_000, 9000, 9000, 9000):
        at.ask(tokens)
    assert not at.fleet.reasons


def test_a_request_that_may_go_to_few_engines_goes_to_one_of_them(counter: Open) -> None:
    assert counter(3).ask(8000, held={0: 7936}, places=frozenset({2})).engine == 2


def test_a_request_that_is_over_while_it_waits_is_never_sent(counter: Open) -> None:
    at = counter(1)
    at.ask(8000)
    gone, other = at.ask(9000), at.ask(500)
    at.policy.ended(gone)
    at.free(0)
    assert gone.engine is None
    assert other.engine == 0


def test_batch_work_waits_for_an_idle_engine_and_comes_by_prefix(counter: Open) -> None:
    at = counter(1)
    at.ask(8000)
    batch = [at.ask(1000, hashes=[name], priority=-1) for name in (7, 8, 7, 7)]
    served = []
    for _ in batch:
        at.free(0)
        served += [ask.id - 1 for ask in at.fleet.bodies[0].asks]
    assert served == [0, 2, 3, 1], "the largest group to its end, and then the other"


def test_a_request_of_a_lost_engine_goes_elsewhere(counter: Open) -> None:
    at = counter(2)
    ask = at.ask(8000)
    lost = ask.engine
    assert lost is not None
    del at.fleet.bodies[lost]
    at.policy.lost(lost)
    ask.engine, ask.emitted = None, 5
    at.policy.arrived(ask)
    assert ask.engine == 1 - lost


def test_a_choice_is_explained_by_what_it_was_made_from(counter: Open) -> None:
    at = counter(2)
    line = at.policy.explain(at.ask(8000, held={1: 4096}))
    assert line.startswith("request 0: engine 1 by least prefill")
    assert "4096 of 8000 tokens cached" in line
    assert "engine 0: TTFT" in line
    waiting = at.ask(8000, held={1: 4096})
    assert waiting.engine is None or "engine" in at.policy.explain(waiting)
