"""A request cut anywhere and continued elsewhere gives the tokens it would have given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_protocol.messages import Finish
from coxswain_workers.engine.native import NativeEngine, load_native
from tests.checkpoints import Architecture
from tests.engine.conftest import OPTIONS
from tests.engine.driving import complete, request

SAMPLINGS = st.fixed_dictionaries(
    {"seed": st.integers(-(2**63), 2**64 - 1), "temperature": st.sampled_from([0.0, 0.5, 1.0, 1.7])},
    optional={
        "top_p": st.floats(0.1, 1.0),
        "top_k": st.integers(0, 50),
        "min_p": st.floats(0.0, 0.2),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "repetition_penalty": st.floats(0.8, 1.5),
        "logprobs": st.integers(0, 3),
        "min_tokens": st.integers(0, 20),
        "stop_ids": st.lists(st.integers(0, 383), max_size=40).map(tuple),
        "ignore_eos": st.booleans(),
    },
)


@pytest.fixture(scope="session")
def engines(checkpoint: Callable[[Architecture], Path]) -> Callable[[str], NativeEngine]:
    """Engines by name, as if in different places: other limits, other neighbours, caches of their own."""
    here = OPTIONS
    there = replace(OPTIONS, max_num_seqs=3, max_step_tokens=13)

    @cache
    def engine(name: str) -> NativeEngine:
        return load_native(checkpoint("qwen3"), {"here": here, "there": there}[name])

    return engine


@settings(deadline=None, max_examples=40)
@given(
    prompt=st.lists(st.integers(0, 383), min_size=1, max_size=40),
    sampling=SAMPLINGS,
    cut=st.integers(0, 29),
    neighbours=st.integers(0, 4),
)
def test_a_request_cut_at_any_token_continues_with_the_same_tokens(
    engines: Callable[[str], NativeEngine], prompt: list[int], sampling: dict[str, Any], cut: int, neighbours: int
) -> None:
    whole = complete(engines("here"), request("whole", prompt, max_tokens=30, **sampling))["whole"]
    cut = min(cut, len(whole.tokens))
    others = [request(f"other{index}", [index, 9], seed=index, temperature=1.0) for index in range(neighbours)]
    rest = request("rest", prompt, output=whole.tokens[:cut], max_tokens=30, **sampling)
    continued = complete(engines("there"), *others, rest)["rest"]
    assert continued.start == cut
    assert continued.tokens == whole.tokens[cut:]
    assert continued.logprobs == whole.logprobs[cut:]
    assert continued.finish == whole.finish


def test_what_had_already_finished_elsewhere_finishes_at_once(engine: NativeEngine) -> None:
    done = request("done", [5], output=[7, 8], max_tokens=2)
    stopped = request("stopped", [5], output=[7, 8], max_tokens=9, stop_ids=(8,))
    results = complete(engine, done, stopped)
    assert results["done"].finish == Finish("length")
    assert results["stopped"].finish == Finish("stop", stop_id=8)
    assert [result.tokens for result in results.values()] == [[], []]


def test_preempted_requests_give_the_same_tokens(checkpoint: Callable[[Architecture], Path]) -> None:
    roomy = load_native(checkpoint("llama"), OPTIONS)
    tight = load_native(checkpoint("llama"), replace(OPTIONS, num_blocks=8, max_model_len=128))
    requests = [
        request(str(index), range(index, index + 20), seed=index, temperature=index % 2, max_tokens=60)
        for index in range(5)
    ]
    expected = complete(roomy, *requests)
    for one in requests:
        tight.submit(one)
    preemptions = 0
    tokens: dict[str, list[int]] = {one.id: [] for one in requests}
    while tight.has_work():
        output = tight.step()
        preemptions += output.event.preemptions
        for chunk in output.chunks:
            tokens[chunk.id] += chunk.tokens
    assert preemptions > 0
    assert tokens == {id_: result.tokens for id_, result in expected.items()}
