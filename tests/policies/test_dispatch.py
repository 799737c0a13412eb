"""Round robin, random, least requests, power of two, SGLang's, Dynamo's and the static split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.policies.dynamo import ActiveBlocks
from tests.policies.fleet import BLOCK, Ask, Desk

Make = Callable[..., Desk]


def test_round_robin_goes_round(desk: Make) -> None:
    work = desk("round-robin", 3)
    assert [work.ask().engine for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_round_robin_with_a_split_goes_round_in_each_pool(desk: Make) -> None:
    work = desk("round-robin:prefill=2", 5)
    asks = [work.ask() for _ in range(4)]
    assert [ask.engine for ask in asks] == [0, 1, 0, 1]
    assert all(how == "hold" for how, _, _ in work.fleet.done)
    for ask in asks:
        work.fleet.admitted(ask, emitted=0)
        work.policy.prefilled(ask)
    assert [ask.engine for ask in asks] == [2, 3, 4, 2]


def test_a_new_engine_takes_the_role_that_is_short(desk: Make) -> None:
    work = desk("round-robin:prefill=2", 4)
    body = work.fleet.bodies[0]
    work.lose(0)
    body.role = "Serve"
    work.fleet.bodies[0] = body
    work.policy.joined(body)
    assert [work.fleet.bodies[engine].role for engine in range(4)] == ["Prefill", "Prefill", "Decode", "Decode"]


def test_random_uses_every_engine_about_equally(desk: Make) -> None:
    work = desk("random", 4)
    counts = Counter(work.ask().engine for _ in range(400))
    assert len(counts) == 4 and min(counts.values()) > 70


def test_least_requests_counts_what_is_in_flight_and_forgets_what_ended(desk: Make) -> None:
    work = desk("least-requests", 3)
    first = [work.ask() for _ in range(3)]
    assert {ask.engine for ask in first} == {0, 1, 2}
    freed = first[1].engine
    work.end(first[1])
    assert work.ask().engine == freed


def test_power_of_two_never_picks_the_most_loaded(desk: Make) -> None:
    work = desk("power-of-two", 3)
    for _ in range(3):
        work.policy.flights.add(Ask(-1 - _, 10), 0, tokens=10, now=0.0)
    assert {work.ask().engine for _ in range(2)} <= {1, 2}


def test_power_of_two_balances_better_than_random(desk: Make) -> None:
    def spread(name: str) -> int:
        work = desk(name, 16)
        counts = Counter(work.ask().engine for _ in range(1600))
        return max(counts.values()) - min(counts.values())

    assert spread("power-of-two") < spread("random") / 4


class TestSGLang:
    def test_a_long_prefix_draws(self, desk: Make) -> None:
        assert desk("sglang-cache-aware").ask(1000, held={2: 400, 1: 350}).engine == 2

    def test_a_short_prefix_does_not(self, desk: Make) -> None:
        work = desk("sglang-cache-aware", 2)
        filled = work.ask(5000).engine
        assert filled is not None
        assert work.ask(1000, held={filled: 300}).engine == 1 - filled

    def test_an_uneven_load_overrules_the_prefix(self, desk: Make) -> None:
        work = desk("sglang-cache-aware", 2)
        for _ in range(65):
            assert work.ask(1000, held={0: 900}).engine == 0
        assert work.ask(1000, held={0: 900}).engine == 1

    def test_trees_shrink_to_their_limit(self, desk: Make) -> None:
        work = desk("sglang-cache-aware:max_tree_size=8000", 2)
        first = work.ask(9000).engine
        assert first is not None
        work.tick(120.0)
        assert work.ask(2500).engine == 1 - first
        assert work.ask(100).engine == first


class TestDynamo:
    def test_a_cached_block_is_worth_a_block_of_load(self, desk: Make) -> None:
        work = desk("dynamo-kv", 2)
        loaded = work.ask(10 * BLOCK, hashes=range(10)).engine
        assert loaded is not None
        # There: 10 blocks to prefill and 10 active more than on the other; 20 cached blocks make up for it, 19 do not.
        other = range(100, 140)
        assert work.ask(40 * BLOCK, held={loaded: 19 * BLOCK}, hashes=other).engine == 1 - loaded

    def test_enough_cached_blocks_outweigh_the_load(self, desk: Make) -> None:
        work = desk("dynamo-kv", 2)
        loaded = work.ask(10 * BLOCK, hashes=range(10)).engine
        assert work.ask(40 * BLOCK, held={loaded or 0: 21 * BLOCK}, hashes=range(100, 140)).engine == loaded

    def test_the_cost_is_that_of_the_formula(self, desk: Make) -> None:
        work = desk("dynamo-kv", 1)
        work.ask(10 * BLOCK, hashes=range(10))
        ask = work.ask(12 * BLOCK, held={0: 4 * BLOCK}, hashes=[0, 1, 2, 3, *range(50, 58)])
        # Prefill: 10 + 12 − 4 blocks; decode: 10 active, 8 of the 12 new.
        assert "(blocks: 0: 36)" in work.policy.explain(ask)

    def test_the_decode_pool_counts_each_requests_blocks(self, desk: Make) -> None:
        work = desk("dynamo-kv:prefill=1", 3)
        shared, other, again = (
            work.ask(8 * BLOCK, hashes=range(8)),
            work.ask(6 * BLOCK, hashes=range(50, 56)),
            work.ask(8 * BLOCK, hashes=range(8)),
        )
        for ask in (shared, other, again):
            work.fleet.admitted(ask, emitted=0)
            work.policy.prefilled(ask)
        assert again.engine == other.engine != shared.engine

    def test_blocks_that_are_active_already_do_not_count_again(self, desk: Make) -> None:
        work = desk("dynamo-kv", 2)
        first, second = work.ask(8 * BLOCK, hashes=range(8)), work.ask(8 * BLOCK, hashes=range(50, 58))
        assert first.engine != second.engine
        assert work.ask(8 * BLOCK, hashes=range(8)).engine == first.engine

    def test_the_prefill_pool_minds_no_decode_blocks(self, desk: Make) -> None:
        work = desk("dynamo-kv:prefill=2", 4)
        ask = work.ask(10 * BLOCK, hashes=range(10))
        assert work.policy.explain(ask).endswith("0: 10, 1: 10)")

    def test_requests_wait_while_every_engine_has_sixteen_steps_to_prefill(self, desk: Make) -> None:
        work = desk("dynamo-kv", 1)
        first, second = work.ask(17 * 8192), work.ask(100)
        assert (first.engine, second.engine) == (0, None)
        work.run(first)
        assert second.engine == 0

    def test_a_temperature_spreads(self, desk: Make) -> None:
        work = desk("dynamo-kv:temperature=1.0", 2)
        assert {work.ask(1000, held={0: 900}).engine for _ in range(60)} == {0, 1}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=20), st.integers(0, 3), st.integers(0, 6))
def test_active_blocks_are_the_distinct_ones(asks: list[tuple[int, int]], tree: int, length: int) -> None:
    """Prompts of chained hashes (a tree's name, a depth), added and one by one removed."""
    prompts = [[(name << 8) + depth for depth in range(count)] for name, count in asks]
    active, new = ActiveBlocks(), [(tree << 8) + depth for depth in range(length)]
    for prompt in prompts:
        active.add(prompt)
    while True:
        union = {block for prompt in prompts for block in prompt}
        assert active.count == len(union)
        assert active.new(new) == len(set(new) - union)
        if not prompts:
            break
        active.remove(prompts.pop())


class TestStatic:
    def test_half_of_the_engines_prefill_unless_told(self, desk: Make) -> None:
        roles = [body.role for body in desk("static", 4).fleet.bodies.values()]
        assert roles == ["Prefill", "Prefill", "Decode", "Decode"]

    def test_takes_the_queue_of_the_fewest_tokens(self, desk: Make) -> None:
        work = desk("static:prefill=2", 4)
        long = work.ask(9000).engine
        assert long in (0, 1)
        assert {work.ask(2000).engine for _ in range(4)} == {1 - long}

    def test_counts_the_prefix_unless_told_not_to(self, desk: Make) -> None:
        assert desk("static:prefill=2", 4).ask(1000, held={1: 500}).engine == 1
        blind = desk("static:prefill=2,prefix=false", 4)
        assert {blind.ask(1000, held={1: 1000}).engine for _ in range(2)} == {0, 1}

    def test_decodes_where_the_least_kv_is(self, desk: Make) -> None:
        work = desk("static:prefill=1", 3)
        asks = [work.ask(tokens) for tokens in (9000, 2000, 3000)]
        for ask in asks:
            work.fleet.admitted(ask, emitted=0)
            work.policy.prefilled(ask)
        assert asks[0].engine != asks[1].engine == asks[2].engine
