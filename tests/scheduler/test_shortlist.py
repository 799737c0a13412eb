"""The shortlist's choice is the one that a look at everybody would have given."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.costs import StepCost, Work
from coxswain_scheduler.prefill_cost import TimedPrefill
from coxswain_scheduler.prefixes import PrefixIndex
from coxswain_scheduler.shortlist import Shortlist

BLOCK = 16


@dataclass(frozen=True)
class Linear:
    """So many tokens a second, so many a step, dearer where they attend to more."""

    rate: float
    budget: int
    attention: float = 1e-5

    def prefill_work(self, prompt: int, cached: int) -> tuple[float, float]:
        tokens = prompt - cached
        return tokens / self.rate * (1 + self.attention * (prompt + cached)), tokens / self.budget


@dataclass
class Load:
    queue: float
    step: float
    pace: float
    toll: float
    depth: int


class Fleet:
    """The shortlist, and beside it what it was told."""

    def __init__(self, seed: int, *, size: int, kinds: int, shared: float, levels: int, thrift: float) -> None:
        rng = self.rng = random.Random(seed)
        self.thrift = thrift
        self.shortlist: Shortlist[str] = Shortlist(rng=random.Random(seed), thrift=thrift)
        self.index = PrefixIndex()
        costs = [Linear(rng.uniform(1e3, 1e5), rng.choice([256, 2048, 8192])) for _ in range(kinds)]
        depths = [rng.randrange(1, 200) for _ in range(levels)]
        busy = rng.choice([0.01, 1.0, 10.0])
        self.loads: dict[str, tuple[Linear, Load]] = {}
        for number in range(size):
            depth = rng.choice(depths) if rng.random() < shared else 0
            load = Load(
                rng.random() * busy, rng.uniform(0.005, 0.05), rng.uniform(0.001, 0.05), rng.random() / 10, depth
            )
            name, cost = f"e{number}", rng.choice(costs)
            self.loads[name] = cost, load
            at = self.shortlist.add(name, cost)
            self.shortlist.update(name, queue=load.queue, step=load.step, pace=load.pace, toll=load.toll)
            self.index.stored(at, range(1, depth + 1))

    def costs(self, prompt: int) -> dict[str, float]:
        """A look at everybody."""
        found = {}
        for name, (cost, load) in self.loads.items():
            seconds, steps = cost.prefill_work(prompt, min(min(load.depth, prompt // BLOCK) * BLOCK, prompt - 1))
            work = seconds + steps * load.pace
            found[name] = load.queue + load.step + load.toll + (1 + self.thrift) * work
        return found

    def levels(self, prompt: int) -> list[tuple[int, int]]:
        return [(depth * BLOCK, mask) for depth, mask in self.index.levels(range(1, prompt // BLOCK + 1))]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 300),
    kinds=st.integers(1, 3),
    shared=st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    levels=st.integers(1, 12),
    thrift=st.sampled_from([0.0, 0.1, 1.0]),
    prompt=st.integers(1, 5000),
)
def test_nothing_is_lost_against_a_full_scan(
    seed: int, size: int, kinds: int, shared: float, levels: int, thrift: float, prompt: int
) -> None:
    fleet = Fleet(seed, size=size, kinds=kinds, shared=shared, levels=levels, thrift=thrift)
    costs = fleet.costs(prompt)
    some = [name for name in fleet.loads if fleet.rng.random() < 0.7]
    for among in (None, some):
        mask = None if among is None else fleet.shortlist.mask(among)
        decision = fleet.shortlist.choose(prompt, fleet.levels(prompt), among=mask)
        eligible = list(fleet.loads) if among is None else among
        if decision is None:
            assert not eligible
            continue
        assert decision.candidates == len(eligible)
        assert decision.member in eligible
        assert costs[decision.member] == pytest.approx(min(costs[name] for name in eligible), abs=1e-8)
        assert decision.chosen.cost == pytest.approx(costs[decision.member], abs=1e-8)


def test_alike_engines_share_a_crowd_of_prompts_evenly() -> None:
    fleet: Shortlist[int] = Shortlist(rng=random.Random(1))
    kind = Linear(1000, 256)
    for engine in range(100):
        fleet.add(engine, kind)
    went = []
    for _ in range(1000):
        decision = fleet.choose(100)
        assert decision is not None
        went.append(decision.member)
        fleet.update(decision.member, queue=went.count(decision.member) / 10, step=0.0, pace=0.0)
    assert {went.count(engine) for engine in range(100)} == {10}


def test_names_come_and_go_and_numbers_are_used_again() -> None:
    fleet: Shortlist[int] = Shortlist(rng=random.Random(1))
    kinds = Linear(1000, 256), Linear(2000, 256)
    for engine in range(130):
        fleet.add(engine, kinds[engine % 2])
    for engine in range(0, 130, 3):
        fleet.drop(engine)
        fleet.drop(engine)
    assert fleet.add(1000, kinds[0]) < 130
    assert len(fleet) == 87
    assert 0 not in fleet
    assert fleet.number(0) is None
    assert fleet.mask([0, 3]) == 0
    fleet.update(1000, queue=-1.0, step=0.0, pace=0.0)
    decision = fleet.choose(10)
    assert decision is not None
    assert (decision.member, decision.candidates) == (1000, 87)
    with pytest.raises(KeyError):
        fleet.update(0, queue=0.0, step=0.0, pace=0.0)


def test_a_prompt_on_its_way_counts_as_held() -> None:
    fleet: Shortlist[int] = Shortlist(rng=random.Random(1))
    kind = Linear(1000, 256)
    for engine in range(50):
        fleet.add(engine, kind)
    decision = fleet.choose(1000, underway=[(900, 1 << 33)])
    assert decision is not None
    assert (decision.member, decision.chosen.cached, decision.uncached) == (33, 900, 100)


def test_a_cost_model_serves_as_prefill_cost() -> None:
    cost = StepCost(floor_seconds=0.01)
    timed = TimedPrefill(cost, step_tokens=512)
    seconds, steps = timed.prefill_work(2000, 500)
    assert steps == 3
    chunks = [(512, 500), (512, 1012), (476, 1524)]
    assert seconds == pytest.approx(sum(cost.seconds(Work(n, n * at + n * (n + 1) // 2)) for n, at in chunks))
    fleet: Shortlist[int] = Shortlist(rng=random.Random(1))
    for engine in range(3):
        fleet.add(engine, timed)
        fleet.update(engine, queue=0.0, step=0.01, pace=0.001 * engine)
    decision = fleet.choose(2000)
    assert decision is not None
    assert decision.member == 0
    assert decision.runner_up is not None
    assert decision.runner_up.prefill == pytest.approx(decision.chosen.prefill + 4 * 0.001)


def test_an_explanation_has_figures_of_everyone_looked_at_and_the_rule() -> None:
    fleet: Shortlist[str] = Shortlist(rng=random.Random(1), thrift=0.5)
    kind = Linear(1000, 1000, attention=0.0)
    for name, queue in (("a", 1.0), ("b", 0.0), ("c", 3.0)):
        fleet.add(name, kind)
        fleet.update(name, queue=queue, step=0.02, pace=0.0)
    decision = fleet.choose(1000, [(900, 1)])
    assert decision is not None
    found = {one.member: (one.ttft, one.cost) for one in decision.shortlist}
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == pytest.approx((1.12, 1.17))
    assert found["b"] == pytest.approx((1.02, 1.52))
    line = decision.explain()
    fleet.update("a", queue=100.0, step=0.02, pace=0.0)
    assert decision.explain() == line
    assert "least of first token + 0.5 of its prefill" in line
    assert line.startswith("a: first token in 1120.0 ms = queue 1000.0 + prefill 100.0 (100 of 1000 tokens)")
    assert "next best of 3 b 1020.0 ms" in line
    assert ", c 4020.0 ms" in line
