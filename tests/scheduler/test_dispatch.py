"""Where a request goes, and why."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_protocol.messages import EngineInfo, Load, StepEvent
from coxswain_scheduler.batching import block_hashes
from coxswain_scheduler.costs import StepCost
from coxswain_scheduler.dispatch import Decision, Dispatcher, Prompt

PROMPT = tuple(range(100, 400))


def info(*, accelerator: str = "cpu", max_num_seqs: int = 8, floor: float = 0.01) -> EngineInfo:
    return EngineInfo(
        engine="native",
        model="m",
        weights_digest="w",
        tokenizer_digest="t",
        vocab_size=1000,
        max_model_len=4096,
        block_size=16,
        num_blocks=100,
        max_num_seqs=max_num_seqs,
        eos_ids=(),
        accelerator=accelerator,
        step_floor_seconds=floor,
    )


def dispatcher(*members: str) -> Dispatcher:
    made = Dispatcher(rng=random.Random(0))
    for member in members:
        made.add(member, info())
    return made


def choose(made: Dispatcher, *members: str) -> Decision[str]:
    decision = made.choose(made.prompt(PROMPT), among=members)
    assert decision is not None
    return decision


def test_the_least_loaded_gets_it() -> None:
    made = dispatcher("a", "b")
    made.reported("a", Load(running=4, context=2000, pending_prefill=500))
    assert choose(made, "a", "b").member == "b"


def test_a_cached_prefix_outweighs_a_little_load() -> None:
    made = dispatcher("a", "b")
    made.stored("a", block_hashes(PROMPT, block_size=16))
    made.reported("a", Load(running=1, context=100))
    decision = choose(made, "a", "b")
    assert (decision.member, decision.chosen.cached) == ("a", 288)
    made.reported("a", Load(running=1, context=100, pending_prefill=5000))
    assert choose(made, "a", "b").member == "b"


def test_a_burst_is_spread_before_any_report_shows_it() -> None:
    made = dispatcher("a", "b", "c")
    went = []
    for number in range(9):
        went.append(choose(made, "a", "b", "c").member)
        made.assigned(went[-1], str(number), len(PROMPT))
    assert {name: went.count(name) for name in "abc"} == {"a": 3, "b": 3, "c": 3}


def test_a_burst_of_one_prefix_stays_together_before_any_block_is_stored() -> None:
    made = Dispatcher(rng=random.Random(0))
    for number in range(40):
        made.add(f"r{number}", info())
    document = tuple(range(1000, 3000))
    first, second, other = (made.prompt((*tokens, *PROMPT)) for tokens in (document, document, PROMPT * 7))
    asked = made.dispatch("first", first)
    follows = made.dispatch("second", second)
    elsewhere = made.dispatch("other", other)
    assert asked and follows and elsewhere
    assert follows.member == asked.member != elsewhere.member
    assert follows.chosen.cached == 2288
    made.settled(asked.member, "first")
    made.settled(asked.member, "second")
    begun = made.choose(second, among=[asked.member])
    assert begun is not None
    assert begun.chosen.cached == 0


def test_what_is_on_its_way_to_a_lost_member_is_forgotten() -> None:
    made = dispatcher("a", "b")
    sent = made.dispatch("r", made.prompt(range(1000)))
    assert sent is not None
    made.drop(sent.member)
    again = made.choose(made.prompt(range(1000)))
    assert again is not None
    assert again.member != sent.member
    assert again.chosen.cached == 0


def test_block_sizes_may_differ() -> None:
    made = dispatcher("a", "b")
    made.add("c", msgspec.structs.replace(info(), block_size=32))
    made.add("d", msgspec.structs.replace(info(), block_size=32))
    made.stored("b", block_hashes(PROMPT, block_size=16)[:2])
    made.stored("d", block_hashes(PROMPT, block_size=32))
    decision = choose(made, *"abcd")
    assert (decision.member, decision.chosen.cached) == ("d", 288)
    assert {one.member: one.cached for one in decision.shortlist} == {"a": 0, "b": 32, "c": 0, "d": 288}
    made.removed("d", block_hashes(PROMPT, block_size=32))
    made.holds("c", block_hashes(PROMPT, block_size=32)[:4])
    assert choose(made, *"abcd").member == "c"


def test_what_was_sent_counts_until_a_report_can_contain_it() -> None:
    made = dispatcher("a", "b")
    made.assigned("a", "r", 1000)
    for expected in (True, True, False):
        assert (choose(made, "a").chosen.queue > 0) is expected
        made.reported("a", Load())
    made.assigned("b", "s", 1000)
    made.settled("b", "s")
    assert choose(made, "b").chosen.queue == 0


def test_full_seats_mean_waiting() -> None:
    made = dispatcher("a", "b")
    made.reported("a", Load(running=8))
    made.reported("b", Load(running=7))
    assert choose(made, "a").chosen.ttft > 3 * choose(made, "b").chosen.ttft


def test_nobody_is_no_decision() -> None:
    made = dispatcher("a")
    assert made.choose(made.prompt(PROMPT), among=[]) is None
    assert Dispatcher().choose(Prompt(10)) is None


def test_equals_are_drawn_by_lot_and_the_lot_can_be_fixed() -> None:
    def drawn(seed: int) -> list[str]:
        made, went = Dispatcher(rng=random.Random(seed)), []
        for member in "abc":
            made.add(member, info())
        for number in range(30):
            decision = made.dispatch(str(number), made.prompt(PROMPT))
            assert decision is not None
            went.append(decision.member)
            made.settled(decision.member, str(number))
        return went

    assert drawn(1) == drawn(1)
    assert set(drawn(1)) == set("abc")


def test_a_decision_explains_itself_in_one_line() -> None:
    made = dispatcher("a", "b")
    made.reported("b", Load(pending_prefill=10_000))
    line = choose(made, "a", "b").explain()
    assert line.startswith("a: first token in ")
    assert "(300 of 300 tokens)" in line
    assert "next best of 2 b " in line
    assert "\n" not in line
    assert choose(made, "a").explain().endswith("; the only one of 1")


@settings(max_examples=10, deadline=None)
@given(st.floats(0.001, 0.02), st.floats(1e-6, 1e-4), st.floats(1e-5, 1e-3), st.floats(1e-8, 1e-6), st.integers())
def test_costs_are_learnt_from_steps(floor: float, prompt: float, row: float, read: float, seed: int) -> None:
    def real(prefill: int, decode: int, context: int) -> float:
        return floor + prompt * prefill + row * decode + read * context

    cost, rng = StepCost(floor_seconds=0.02), random.Random(seed)
    for number in range(1500):
        shape = rng.randrange(512), rng.randrange(1, 32), rng.randrange(8000)
        cost.observe(StepEvent(number, real(*shape), *shape))
    for shape in [(0, 1, 100), (0, 31, 8000), (256, 4, 1000), (512, 16, 4000)]:
        assert cost.predict(*shape) == pytest.approx(real(*shape), rel=0.2)
    assert cost.error < 0.2


def test_a_constant_that_never_showed_is_never_negative() -> None:
    cost = StepCost(floor_seconds=0.01)
    for number in range(500):
        cost.observe(StepEvent(number, 0.01 - 1e-5 * (number % 7), 0, 1 + number % 7, 100 * (number % 7)))
    assert cost.predict(0, 32, 100_000) >= cost.predict(0, 1, 0) > 0.009


def test_prefill_takes_as_many_steps_as_the_budget_needs() -> None:
    cost = StepCost(floor_seconds=0.01)
    one, two = (cost.prefill(tokens, step_seconds=0.01) for tokens in (256, 512))
    assert two == pytest.approx(2 * one)
    assert cost.prefill(0, step_seconds=0.01) == 0
