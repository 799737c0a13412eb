"""What an engine says about requests: how they end, what is wrong with them, what they reuse."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coxswain_protocol.messages import Finish
from coxswain_scheduler.batching import block_hashes
from coxswain_workers.engine.native import NativeEngine, load_native
from tests.checkpoints import Architecture
from tests.engine.conftest import OPTIONS
from tests.engine.driving import complete, request


def test_a_request_ends_at_max_tokens(engine: NativeEngine) -> None:
    result = complete(engine, request("a", [5, 6], max_tokens=7))["a"]
    assert len(result.tokens) == 7
    assert result.finish == Finish("length")
    assert result.start == 0


def test_a_request_ends_when_the_context_is_full(checkpoint: Callable[[Architecture], Path]) -> None:
    engine = load_native(checkpoint("llama"), replace(OPTIONS, max_model_len=24))
    result = complete(engine, request("a", range(20), max_tokens=100))["a"]
    assert len(result.tokens) == 4
    assert result.finish == Finish("length")


def test_a_stop_id_ends_a_request_unless_min_tokens_forbids_it(engine: NativeEngine) -> None:
    free = complete(engine, request("a", [5, 6], max_tokens=12))["a"].tokens
    stop = free[4]
    first = free.index(stop)
    stopped = complete(engine, request("b", [5, 6], max_tokens=12, stop_ids=(stop,)))["b"]
    assert stopped.tokens == free[: first + 1]
    assert stopped.finish == Finish("stop", stop_id=stop)
    kept = complete(engine, request("c", [5, 6], max_tokens=12, stop_ids=(stop,), min_tokens=8))["c"]
    assert stop not in kept.tokens[:8]
    assert len(kept.tokens) >= 8


def test_the_end_of_sequence_ends_a_request_unless_it_is_to_be_ignored(engine: NativeEngine) -> None:
    end = engine.info.eos_ids[0]
    hot: dict[str, Any] = {"temperature": 100.0, "max_tokens": 400, "top_k": 0}
    results = complete(
        engine,
        *(request(f"heeds{seed}", [3], seed=seed, ignore_eos=False, **hot) for seed in range(8)),
        *(request(f"ignores{seed}", [3], seed=seed, ignore_eos=True, **hot) for seed in range(8)),
    )
    stopped = 0
    for seed in range(8):
        heeds, ignores = results[f"heeds{seed}"], results[f"ignores{seed}"]
        assert len(ignores.tokens) == 400
        assert heeds.tokens == ignores.tokens[: len(heeds.tokens)]
        if end in ignores.tokens:
            stopped += 1
            assert heeds.finish == Finish("stop", stop_id=end)
            assert heeds.tokens.index(end) == len(heeds.tokens) - 1
    assert stopped, "no seed drew the end of sequence, so nothing was tested"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": range(512)}, "a token id is outside|the prompt has 512 tokens; the context of 512"),
        ({"prompt": [384]}, "a token id is outside the vocabulary of 384"),
        ({"prompt": [1], "output": [-1]}, "a token id is outside the vocabulary of 384"),
        ({"stop_ids": (4000,)}, "a stop token id is outside the vocabulary of 384"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be from 0.0 to"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p and repetition_penalty must be above 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 2.0}, "min_p is 2.0"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be from 1"),
        ({"max_tokens": -5}, "max_tokens is -5"),
        ({"min_tokens": -1}, "min_tokens is -1"),
        ({"presence_penalty": 3.0}, "presence_penalty is 3.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"logprobs": -1}, "logprobs is -1"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_and_others_are_untouched(
    engine: NativeEngine, wrong: dict[str, Any], message: str
) -> None:
    good = request("good", [5, 6, 7], max_tokens=6)
    expected = complete(engine, good)["good"].tokens
    bad = request("bad", wrong.pop("prompt", [4]), **wrong)
    results = complete(engine, bad, good)
    finish = results["bad"].finish
    assert finish is not None
    assert finish.reason == "error"
    assert re.search(message, finish.message)
    assert results["bad"].tokens == []
    assert results["good"].tokens == expected


def test_an_id_in_use_is_refused(engine: NativeEngine) -> None:
    engine.submit(request("a", [5], max_tokens=3))
    engine.submit(request("a", [6], max_tokens=3))
    chunks = engine.step().chunks
    assert chunks[0].finish == Finish("error", "a request with the id a is already running")
    assert [chunk.tokens for chunk in chunks[1:]] != [()]


def test_an_aborted_request_says_nothing_more_and_frees_its_blocks(engine: NativeEngine) -> None:
    engine.submit(request("running", range(40), max_tokens=100))
    engine.step()
    engine.submit(request("waiting", range(40), max_tokens=100))
    engine.submit(request("wrong", [], max_tokens=100))
    assert engine.load().running == 1
    assert engine.load().free_blocks < engine.load().total_blocks
    for id_ in ("running", "waiting", "wrong", "unknown"):
        engine.abort(id_)
    assert not engine.has_work()
    assert engine.step().chunks == []
    assert engine.load().free_blocks == engine.load().total_blocks


def test_a_repeated_prompt_comes_from_the_cache_with_equal_tokens(engine: NativeEngine) -> None:
    prompt = list(range(50))
    first = complete(engine, request("a", prompt, max_tokens=8))["a"]
    again = complete(engine, request("b", prompt, max_tokens=8))["b"]
    assert (first.cached, again.cached) == (0, 48)
    assert again.tokens == first.tokens


def test_stored_blocks_carry_the_hashes_that_a_gateway_computes(engine: NativeEngine) -> None:
    engine.submit(request("a", range(50), max_tokens=1))
    stored = engine.step().stored
    assert stored == block_hashes(range(50), block_size=engine.info.block_size)
    assert set(engine.reusable_blocks()) == set(stored)


def test_events_account_for_every_reusable_block(checkpoint: Callable[[Architecture], Path]) -> None:
    engine = load_native(checkpoint("llama"), replace(OPTIONS, num_blocks=12, max_model_len=128))
    known: set[int] = set()
    for index in range(12):
        engine.submit(request(str(index), range(index, index + 30), max_tokens=30))
    while engine.has_work():
        output = engine.step()
        assert set(output.removed) <= known
        assert not known & set(output.stored)
        known = (known | set(output.stored)) - set(output.removed)
        assert known == set(engine.reusable_blocks())


def test_a_step_reports_what_it_did(engine: NativeEngine) -> None:
    engine.submit(request("a", range(10), max_tokens=5))
    first = engine.step().event
    engine.submit(request("b", range(100, 190), max_tokens=5))
    second, load = engine.step().event, engine.load()
    third = engine.step().event
    assert (first.number, first.prefill_tokens, first.decode_sequences, first.context) == (1, 10, 0, 10)
    assert (second.prefill_tokens, second.decode_sequences, second.context) == (63, 1, 63 + 11)
    assert (third.prefill_tokens, third.decode_sequences) == (27, 1)
    assert second.seconds > 0
    assert (load.running, load.waiting, load.pending_prefill, load.context) == (2, 0, 27, 63 + 11)
