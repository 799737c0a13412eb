"""Attention on a GPU, against float64 on random ragged batches; bits of invariant plans; graphs."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import accumulate

import pytest
import torch

from coxswain_kernels.attention import paged_decode, paged_prefill, shared_prefix
from tests.kernels.gpu.ragged import attention, error, lengths, ragged_pages, tolerance
from tests.kernels.interpreted.pages import BF16, DTYPES, E4M3, part

EITHER = pytest.mark.parametrize("invariant", [False, True], ids=["fast", "invariant"])
SEEDS = pytest.mark.parametrize("seed", range(3))
HEADS = 8
SCALE = 0.1


def _ints(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def _starts(counts: list[int]) -> torch.Tensor:
    return _ints([0, *accumulate(counts)])


def _counts(contexts: list[int], seed: int) -> list[int]:
    choose = random.Random(seed)
    return [choose.randint(1, context) for context in contexts]


@DTYPES
@EITHER
@SEEDS
@pytest.mark.parametrize("head_dim", [64, 128])
def test_decode(dtype: torch.dtype, stored: torch.dtype, invariant: bool, seed: int, head_dim: int) -> None:
    contexts = lengths(seed)
    pages = ragged_pages(contexts, stored, head_dim=head_dim)
    query = torch.randn(len(contexts), HEADS, head_dim).to(dtype)
    wanted = attention(query, pages, [1] * len(contexts), scale=SCALE)
    got = paged_decode.launch(query, pages, scale=SCALE, invariant=invariant)
    assert error(got, wanted) < tolerance(dtype)


@DTYPES
@EITHER
@SEEDS
def test_prefill(dtype: torch.dtype, stored: torch.dtype, invariant: bool, seed: int) -> None:
    contexts = lengths(seed)
    counts = _counts(contexts, seed)
    pages = ragged_pages(contexts, stored, head_dim=128)
    query = torch.randn(sum(counts), HEADS, 128).to(dtype)
    got = paged_prefill.launch(query, pages, _starts(counts), scale=SCALE, invariant=invariant)
    assert error(got, attention(query, pages, counts, scale=SCALE)) < tolerance(dtype)


@DTYPES
@EITHER
@SEEDS
def test_shared_prefix(dtype: torch.dtype, stored: torch.dtype, invariant: bool, seed: int) -> None:
    contexts = [640 + context for context in lengths(seed)]
    pages = ragged_pages(contexts, stored, head_dim=128)
    middle = len(contexts) // 2
    pages.tables[1:middle, :40] = pages.tables[0, :40]
    shared = [640] * middle + [0] * (len(contexts) - middle)
    cuts = _ints([0, middle, len(contexts)]), _ints(shared)
    query = torch.randn(len(contexts), HEADS, 128).to(dtype)
    got = shared_prefix.launch(query, pages, *cuts, scale=SCALE, invariant=invariant)
    assert error(got, attention(query, pages, [1] * len(contexts), scale=SCALE)) < tolerance(dtype)
    if invariant:
        assert torch.equal(got, paged_decode.launch(query, pages, scale=SCALE, invariant=True))


@DTYPES
@SEEDS
def test_a_token_has_the_same_bits_alone_in_a_batch_in_a_chunk_and_decoded(
    dtype: torch.dtype, stored: torch.dtype, seed: int
) -> None:
    contexts = lengths(seed)
    counts = _counts(contexts, seed)
    starts = [0, *accumulate(counts)]
    pages = ragged_pages(contexts, stored, head_dim=128)
    query = torch.randn(sum(counts), HEADS, 128).to(dtype)
    together = paged_prefill.launch(query, pages, _starts(counts), scale=SCALE, invariant=True)
    for sequence, count in enumerate(counts):
        mine, alone = slice(starts[sequence], starts[sequence + 1]), part(pages, [sequence])
        chunk = paged_prefill.launch(query[mine], alone, _starts([count]), scale=SCALE, invariant=True)
        assert torch.equal(chunk, together[mine])
    last = [end - 1 for end in starts[1:]]
    decoded = paged_decode.launch(query[last], pages, scale=SCALE, invariant=True)
    assert torch.equal(decoded, together[last])
    for place in range(len(last)):
        row = query[last[place] : last[place] + 1]
        single = paged_decode.launch(row, part(pages, [place]), scale=SCALE, invariant=True)
        assert torch.equal(single, decoded[place : place + 1])


@EITHER
@pytest.mark.parametrize("stored", [BF16, E4M3])
def test_a_graph_of_decode_is_replayed_with_other_contexts(stored: torch.dtype, invariant: bool) -> None:
    contexts = lengths(1, most=6)
    pages = ragged_pages(contexts, stored, head_dim=128)
    query = torch.randn(len(contexts), HEADS, 128).to(BF16)
    longest = max(contexts)
    # What it was captured for is the longest: the contexts that are replayed are what they are at the time.
    held = replace(pages, contexts=torch.ones_like(pages.contexts))
    paged_decode.launch(query, held, scale=SCALE, invariant=invariant, longest=longest)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = paged_decode.launch(query, held, scale=SCALE, invariant=invariant, longest=longest)
    for some in (contexts, [max(1, context // 2) for context in contexts], [1] * len(contexts)):
        held.contexts.copy_(_ints(some))
        query.normal_()
        graph.replay()
        now = replace(pages, contexts=_ints(some))
        assert error(out, attention(query, now, [1] * len(some), scale=SCALE)) < tolerance(BF16)
        if invariant:
            assert torch.equal(out, paged_decode.launch(query, now, scale=SCALE, invariant=True))
    held.contexts.zero_()
    graph.replay()
    assert not out.any()
