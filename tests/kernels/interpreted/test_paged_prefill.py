"""Prefill attention by the kernel is that by torch, and token by token that of decode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from coxswain_kernels.attention import paged_decode
from coxswain_kernels.attention import paged_prefill as op
from tests.kernels.interpreted.pages import BF16, DTYPES, E4M3, F16, assert_near, made_pages, part

EITHER = pytest.mark.parametrize("invariant", [False, True], ids=["fast", "invariant"])


def _starts(*counts: int, device: str = "cpu") -> torch.Tensor:
    return torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32, device=device)


@DTYPES
@EITHER
@pytest.mark.parity("paged_prefill")
def test_it_is_what_torch_computes(dtype: torch.dtype, stored: torch.dtype, invariant: bool, device: str) -> None:
    pages = made_pages([90, 20, 9, 33], dtype=stored, kv_heads=1, device=device)
    starts = _starts(6, 20, 0, 1, device=device)
    query = torch.randn(27, 3, 64).to(device, dtype)
    got = op.launch(query, pages, starts, scale=0.125, invariant=invariant)
    assert_near(got, op.reference(query, pages, starts, scale=0.125))


@EITHER
@pytest.mark.parametrize(("head_dim", "block_size", "group"), [(128, 16, 8), (64, 32, 1)])
@pytest.mark.parity("paged_prefill")
def test_other_shapes(head_dim: int, block_size: int, group: int, invariant: bool, device: str) -> None:
    pages = made_pages([40, 12], dtype=BF16, kv_heads=1, head_dim=head_dim, block_size=block_size, device=device)
    starts = _starts(20, 12, device=device)
    query = torch.randn(32, group, head_dim).to(device, BF16)
    got = op.launch(query, pages, starts, scale=0.1, invariant=invariant)
    assert_near(got, op.reference(query, pages, starts, scale=0.1))


@EITHER
@pytest.mark.parity("paged_prefill")
def test_no_sequences_and_no_tokens(invariant: bool, device: str) -> None:
    query = torch.randn(0, 4, 64, device=device)
    for pages, starts in (
        (made_pages([], device=device), _starts()),
        (made_pages([3, 0], device=device), _starts(0, 0)),
    ):
        assert op.launch(query, pages, starts.to(device), scale=1.0, invariant=invariant).shape == (0, 4, 64)


@pytest.mark.parity("paged_prefill")
def test_queries_may_be_part_of_a_larger_tensor(device: str) -> None:
    pages, starts = made_pages([5, 40], dtype=F16, device=device), _starts(2, 3, device=device)
    query = torch.randn(5, 10, 64, dtype=F16, device=device)[:, 2:8]
    got = op.launch(query, pages, starts, scale=0.125, invariant=False)
    assert_near(got, op.reference(query.contiguous(), pages, starts, scale=0.125))


@DTYPES
@pytest.mark.invariant("paged_prefill")
def test_a_token_has_the_bits_of_decode(dtype: torch.dtype, stored: torch.dtype, device: str) -> None:
    """Across a border of pieces, of tiles, and from the first token on."""
    contexts, counts = [514, 67, 2], [4, 5, 2]
    pages = made_pages(contexts, dtype=stored, kv_heads=1, device=device)
    query = torch.randn(11, 2, 64).to(device, dtype)
    starts = _starts(*counts, device=device)
    together = op.launch(query, pages, starts, scale=0.125, invariant=True)
    for sequence, rows in ((0, (1, 2)), (1, (4, 8)), (2, (9, 10))):
        behind = torch.tensor([int(starts[sequence + 1]) - 1 - row for row in rows], dtype=torch.int32, device=device)
        alike = part(pages, [sequence] * len(rows))
        alone = replace(alike, contexts=alike.contexts - behind)
        decoded = paged_decode.launch(query[list(rows)], alone, scale=0.125, invariant=True)
        assert torch.equal(decoded, together[list(rows)])


@pytest.mark.parametrize(("dtype", "stored"), [(BF16, BF16), (BF16, E4M3)])
@pytest.mark.invariant("paged_prefill")
def test_a_token_has_the_same_bits_in_every_chunk(dtype: torch.dtype, stored: torch.dtype, device: str) -> None:
    pages = made_pages([70, 30], dtype=stored, kv_heads=1, device=device)
    query = torch.randn(70, 4, 64).to(device, dtype)
    whole = op.launch(query, part(pages, [0]), _starts(70, device=device), scale=0.125, invariant=True)
    behind = torch.tensor([33, 0], dtype=torch.int32, device=device)
    head = replace(pages, contexts=pages.contexts - behind)
    first = op.launch(query[:40], head, _starts(37, 3, device=device), scale=0.125, invariant=True)
    second = op.launch(query[37:], part(pages, [0]), _starts(33, device=device), scale=0.125, invariant=True)
    assert torch.equal(torch.cat((first[:37], second)), whole)


@pytest.mark.parity("paged_prefill")
def test_what_does_not_fit_is_refused() -> None:
    pages, query = made_pages([5, 40]), torch.zeros(7, 4, 64)
    with pytest.raises(ValueError, match=r"starts has shape \[2\], wanted \[3\]"):
        op.launch(query, pages, _starts(7), scale=1.0, invariant=True)
    with pytest.raises(ValueError, match="starts is int64, wanted int32"):
        op.launch(query, pages, _starts(3, 4).long(), scale=1.0, invariant=True)
    with pytest.raises(ValueError, match="keys is float32, wanted bfloat16"):
        op.launch(query.bfloat16(), pages, _starts(3, 4), scale=1.0, invariant=True)


@pytest.mark.parity("paged_prefill")
def test_the_entry_point_looks_at_starts_and_places() -> None:
    pages, query = made_pages([5, 40]), torch.randn(7, 4, 64)

    def call(starts: torch.Tensor, tables: torch.Tensor = pages.tables) -> torch.Tensor:
        return op.paged_prefill(query, replace(pages, tables=tables), starts, scale=0.125, invariant=True)

    assert torch.equal(call(_starts(3, 4)), op.reference(query, pages, _starts(3, 4), scale=0.125))
    with pytest.raises(ValueError, match="starts are from 0 to 6, wanted from 0 to 7"):
        call(_starts(3, 3))
    with pytest.raises(ValueError, match=r"starts\[0\] to the next are 6 rows, wanted 0 to 5"):
        call(_starts(6, 1))
    wrong = pages.tables.clone()
    wrong[0, 0] = -1
    with pytest.raises(ValueError, match=r"tables\[0, 0\] is -1"):
        call(_starts(3, 4), wrong)
