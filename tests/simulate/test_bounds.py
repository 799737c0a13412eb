"""Bounds are those of the project's notes on the conversation trace, and nothing that can be done exceeds them."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.interface import Objectives
from coxswain_scheduler.simulator.bounds import (
    Prices,
    cheapest,
    feasible,
    fluid_work,
    infinite_cache,
    most_good,
    pooled_belady,
    pooled_lru,
    prefill_seconds,
    token_share,
)
from coxswain_scheduler.simulator.setup import EngineSpec, Setup
from coxswain_scheduler.simulator.trace import Trace, TraceRequest
from coxswain_simulate.traces import load
from tests.simulate.conftest import CONVERSATION

ENGINE_TOKENS = 16_384 * 64


@pytest.fixture(scope="module")
def conversation() -> Trace:
    return load(CONVERSATION, "mooncake")


def test_prefixes_of_the_conversation_trace(conversation: Trace) -> None:
    assert token_share(conversation, infinite_cache(conversation)) == pytest.approx(0.374, abs=0.0005)
    for engines, lru in ((8, 0.271), (4, 0.185)):
        assert token_share(conversation, pooled_lru(conversation, engines * ENGINE_TOKENS)) == pytest.approx(
            lru, abs=0.0005
        )


def test_which_of_the_conversation_trace_are_feasible(conversation: Trace, mocker: EngineSpec) -> None:
    assert sum(feasible(conversation, [mocker] * 8, ttft=2.0)) == 11_973
    nothing = [0] * len(conversation.requests)
    assert len(nothing) - sum(feasible(conversation, [mocker], ttft=2.0, cached=nothing)) == 80


def test_the_work_of_the_conversation_trace(conversation: Trace, mocker: EngineSpec) -> None:
    for cached, prefill, speedup, split in (
        (infinite_cache(conversation, block_size=64), 1833, 8.06, 4.2),
        (pooled_lru(conversation, 8 * ENGINE_TOKENS, block_size=64), 2115, 7.48, 4.5),
    ):
        possible = feasible(conversation, [mocker], ttft=2.0, cached=cached)
        work = fluid_work(conversation, mocker, cached=cached, chosen=possible)
        assert work.prefill_seconds == pytest.approx(prefill, abs=0.5)
        assert work.decode_seconds == pytest.approx(1676, rel=0.005)
        assert work.max_speedup(engines=8, span_seconds=conversation.seconds) == pytest.approx(speedup, abs=0.005)
        assert work.prefill_engines(8) == pytest.approx(split, abs=0.05)


def test_the_bound_of_the_conversation_trace_falls_with_the_rate(conversation: Trace, mocker: EngineSpec) -> None:
    bounds = [most_good(conversation, Setup(engines=(mocker,) * 8, speedup=speedup)) for speedup in (7, 12, 48)]
    assert bounds[0] == 11_973, "the work fits, so nothing but feasibility bounds it"
    assert bounds == sorted(bounds, reverse=True)
    assert 11_600 < bounds[1] < 11_900
    assert bounds[2] < 0.85 * bounds[0]


@st.composite
def _chats(draw: st.DrawFn) -> Trace:
    """Requests that extend one another's prompts or begin anew, in chunks of a token; the last token shares nothing."""
    prompts: list[tuple[int, ...]] = []
    fresh = itertools.count()
    for _ in range(draw(st.integers(1, 9))):
        base = draw(st.sampled_from([(), *prompts]))
        kept = base[: draw(st.integers(0, len(base)))]
        prompts.append((*kept, *itertools.islice(fresh, draw(st.integers(0 if kept else 1, 2)))))
    requests = tuple(
        TraceRequest(id=i, arrival=i, prompt_tokens=len(chunks) + 1, output_tokens=1, chunks=chunks)
        for i, chunks in enumerate(prompts)
    )
    return Trace("chats", requests, chunk_tokens=1)


def _most_hits(trace: Trace, room: int) -> int:
    """Chunks found by the best of all ways to forget, by trying them."""
    best = {frozenset[int](): 0}
    for request in trace.requests:
        after: dict[frozenset[int], int] = {}
        for held, hits in best.items():
            known = next((i for i, c in enumerate(request.chunks) if c not in held), len(request.chunks))
            there = held | set(request.chunks)
            for keep in itertools.combinations(sorted(there), min(room, len(there))):
                chosen = frozenset(keep)
                after[chosen] = max(after.get(chosen, 0), hits + min(known, request.prompt_tokens - 1))
        best = after
    return max(best.values())


@settings(max_examples=60, deadline=None)
@given(trace=_chats(), room=st.integers(0, 4))
def test_no_way_to_forget_beats_belady(trace: Trace, room: int) -> None:
    lru, belady, infinite = pooled_lru(trace, room), pooled_belady(trace, room), infinite_cache(trace)
    if all(len(set(r.chunks)) < r.prompt_tokens or r.prompt_tokens > len(r.chunks) for r in trace.requests):
        return
    longer = Trace(
        "longer",
        tuple(
            TraceRequest(
                id=r.id, arrival=r.arrival, prompt_tokens=r.prompt_tokens + 1, output_tokens=1, chunks=r.chunks
            )
            for r in trace.requests
        ),
        chunk_tokens=1,
    )
    assert sum(pooled_belady(longer, room)) == _most_hits(longer, room)
    assert sum(lru) <= sum(infinite)
    assert sum(belady) <= sum(infinite)
    assert sum(pooled_lru(longer, room)) <= sum(pooled_belady(longer, room))


@pytest.fixture(scope="module")
def prices(mocker: EngineSpec) -> Prices:
    return cheapest([mocker], Work(84_190_404, 10**12, 4_000_000, 5 * 10**10))


def test_prices_of_the_mocked_engine_are_those_of_its_best_steps(prices: Prices) -> None:
    """Prefill is cheapest where a·n + c/n is least, decoding where the memory is full."""
    assert prices.token == pytest.approx((0.01518344 + 2 * (4.209989e-07 * 16.50142) ** 0.5) / 1e3, rel=0.002)
    assert prices.context == pytest.approx(34.01e-3 / ENGINE_TOKENS, rel=0.002)


@given(
    tokens=st.integers(0, 100_000),
    start=st.integers(0, 30_000),
    decodes=st.integers(0, 256),
    context=st.integers(0, ENGINE_TOKENS),
)
def test_no_step_is_cheaper_than_its_prices(
    mocker: EngineSpec, prices: Prices, tokens: int, start: int, decodes: int, context: int
) -> None:
    work = Work(tokens, tokens * start + tokens * (tokens + 1) // 2, decodes, context if decodes else 0)
    least = prices.prefill(tokens=work.prefill_tokens, pairs=work.prefill_pairs) + prices.decoding(
        steps=work.decodes, context=work.context
    )
    assert mocker.timing.seconds(work) >= least * (1 - 1e-9)


def _served_one_by_one(trace: Trace, setup: Setup, order: list[int]) -> int:
    """Good requests when each engine takes the next of `order` once it is done with its last, alone in its steps."""
    engine = setup.engines[0]
    free = [0.0] * len(setup.engines)
    seen: set[int] = set()
    good = 0
    for index in order:
        request = trace.requests[index]
        known = sum(1 for _ in itertools.takewhile(seen.__contains__, request.chunks)) * trace.chunk_tokens
        seen.update(request.chunks)
        which = free.index(min(free))
        start = max(free[which], request.arrival / setup.speedup)
        cached = min(known, request.prompt_tokens - 1) // 64 * 64
        first = start + prefill_seconds(
            engine.timing, prompt_tokens=request.prompt_tokens, cached=cached, step_tokens=8192
        )
        steps = request.output_tokens - 1
        free[which] = first + engine.timing.decode_seconds(1, request.prompt_tokens, steps)
        ttft = first - request.arrival / setup.speedup
        slow = (free[which] - first) / steps if steps else 0.0
        good += ttft <= setup.objectives.ttft and slow <= setup.objectives.inter_token
    return good


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), engines=st.integers(1, 3), ttft=st.sampled_from([0.05, 0.3, 1.0]))
def test_serving_one_by_one_never_exceeds_the_bound(mocker: EngineSpec, seed: int, engines: int, ttft: float) -> None:
    source = random.Random(seed)
    requests = []
    for index, arrival in enumerate(sorted(source.uniform(0, 3) for _ in range(source.randint(1, 40)))):
        size = source.choice([100, 700, 3000, 30_000])
        shared = source.randint(0, size // 512)
        chunks = tuple(range(shared)) + tuple(10**4 * (index + 1) + i for i in range(-(-size // 512) - shared))
        requests.append(
            TraceRequest(
                id=index, arrival=arrival, prompt_tokens=size, output_tokens=source.choice([1, 5, 80]), chunks=chunks
            )
        )
    trace = Trace("random", tuple(requests))
    setup = Setup(engines=(mocker,) * engines, objectives=Objectives(ttft=ttft), speedup=source.choice([1.0, 4.0]))
    order = list(range(len(requests)))
    bound = most_good(trace, setup)
    assert _served_one_by_one(trace, setup, order) <= bound
    order.sort(key=lambda index: (requests[index].prompt_tokens, requests[index].output_tokens))
    assert _served_one_by_one(trace, setup, order) <= bound


def test_of_a_burst_as_many_are_good_as_there_is_time_for(mocker: EngineSpec) -> None:
    """A hundred prompts of 6,261 tokens at once: each takes 128 ms at best, so two engines do 31 of them in 2 s."""
    requests = tuple(TraceRequest(id=i, arrival=0, prompt_tokens=6261, output_tokens=1) for i in range(100))
    alone = prefill_seconds(mocker.timing, prompt_tokens=6261, cached=0, step_tokens=8192)
    bound = most_good(Trace("burst", requests), Setup(engines=(mocker,) * 2))
    assert 2 * int(2.0 / alone) <= bound <= 2 * 2.05 / alone


def test_requests_that_wait_for_others_bound_nothing(mocker: EngineSpec) -> None:
    first = TraceRequest(id=0, arrival=0, prompt_tokens=100, output_tokens=1)
    rest = tuple(TraceRequest(id=i, arrival=0, prompt_tokens=60_000, output_tokens=1, after=(0,)) for i in range(1, 99))
    assert most_good(Trace("fan", (first, *rest)), Setup(engines=(mocker,))) == 99


def test_an_empty_trace_has_no_good_requests(mocker: EngineSpec) -> None:
    assert most_good(Trace("none", ()), Setup(engines=(mocker,))) == 0
