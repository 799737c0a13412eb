"""Paged attention against attention written out, and against itself in other company."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_kernels.attention.cpu.paged_attention import Span, paged_attention, plan_tiles
from coxswain_kernels.attention.cpu.span_attention import plan_span, span_attention

KV_HEADS, DIM, BLOCKS = 2, 16, 64
SCALE = DIM**-0.5


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    """Spans of several sequences, their blocks scattered over one cache."""

    spans: list[Span]
    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    block_size: int

    def alone(self, span: Span) -> torch.Tensor:
        """Attention of one span written out: [tokens, heads, dim]."""
        end = span.start + span.count
        key = self.keys[:, list(span.blocks)].transpose(2, 3).reshape(KV_HEADS, -1, DIM)[:, :end]
        value = self.values[:, list(span.blocks)].reshape(KV_HEADS, -1, DIM)[:, :end]
        query = self.query[span.row : span.row + span.count].view(span.count, KV_HEADS, -1, DIM)
        scores = torch.einsum("tkgd,ksd->kgts", query, key) * SCALE
        late = torch.arange(end) > torch.arange(span.start, end)[:, None]
        weights = scores.masked_fill(late, -torch.inf).softmax(-1)
        return torch.einsum("kgts,ksd->tkgd", weights, value).reshape(span.count, -1, DIM)

    def paged(self, spans: list[Span], *, tile: int, min_rows: int = 4) -> torch.Tensor:
        out = torch.zeros_like(self.query)
        for tiles in plan_tiles(spans, tile=tile, block_size=self.block_size):
            paged_attention(self.query, self.keys, self.values, tiles, scale=SCALE, min_rows=min_rows, out=out)
        return out


@st.composite
def cases(draw: st.DrawFn) -> Case:
    block_size, group = draw(st.sampled_from([16, 32])), draw(st.sampled_from([1, 2, 3]))
    free = draw(st.permutations(range(BLOCKS)))
    spans, row = [], 0
    for start, count in draw(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 40)), min_size=1, max_size=6)):
        taken = -(-(start + count) // block_size)
        spans.append(Span(row, start, count, free[:taken]))
        free, row = free[taken:], row + count
    generator = torch.Generator().manual_seed(draw(st.integers(0, 5)))

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    keys, values = randn(KV_HEADS, BLOCKS, DIM, block_size), randn(KV_HEADS, BLOCKS, block_size, DIM)
    return Case(spans, randn(row, KV_HEADS * group, DIM), keys, values, block_size)


@settings(deadline=None)
@given(cases(), st.sampled_from([1, 4, 32]))
def test_paged_attention_is_attention(case: Case, tile: int) -> None:
    got = case.paged(case.spans, tile=tile)
    for span in case.spans:
        torch.testing.assert_close(got[span.row : span.row + span.count], case.alone(span), rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(cases())
def test_span_attention_is_attention(case: Case) -> None:
    out = torch.zeros_like(case.query)
    for span in case.spans:
        plan = plan_span(span, block_size=case.block_size)
        span_attention(case.query, case.keys, case.values, plan, scale=SCALE, out=out)
        torch.testing.assert_close(out[span.row : span.row + span.count], case.alone(span), rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(cases())
def test_a_token_has_the_same_bits_in_a_prefill_tile_and_decoded_alone(case: Case) -> None:
    together = case.paged(case.spans, tile=32)
    for span in case.spans:
        for index in range(span.count):
            single = Span(span.row + index, span.start + index, 1, span.blocks)
            assert torch.equal(case.paged([single], tile=1)[single.row], together[single.row])
