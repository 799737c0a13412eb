"""Attention over a shared prefix is attention over the whole context."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from coxswain_kernels.attention import paged_decode
from coxswain_kernels.attention import shared_prefix as op
from coxswain_kernels.attention.pages import Pages
from tests.kernels.interpreted.pages import BF16, DTYPES, F16, assert_near, made_pages

EITHER = pytest.mark.parametrize("invariant", [False, True], ids=["fast", "invariant"])


def _ints(*values: int, device: str = "cpu") -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)


def _share(pages: Pages, groups: list[int], shared: list[int]) -> None:
    """Let sequences of a group have the blocks of the first, as far as is shared: whole ones."""
    block_size = pages.cache.keys.shape[1]
    for first, end in pairwise(groups):
        blocks = shared[first] // block_size
        pages.tables[first:end, :blocks] = pages.tables[first, :blocks]


@DTYPES
@EITHER
@pytest.mark.parity("shared_prefix")
def test_it_is_what_torch_computes(dtype: torch.dtype, stored: torch.dtype, invariant: bool, device: str) -> None:
    pages = made_pages([150, 130, 20, 81], dtype=stored, kv_heads=1, device=device)
    _share(pages, groups := [0, 2, 4], shared := [128, 128, 16, 16])
    query = torch.randn(4, 3, 64).to(device, dtype)
    cuts = _ints(*groups, device=device), _ints(*shared, device=device)
    got = op.launch(query, pages, *cuts, scale=0.125, invariant=invariant)
    assert_near(got, paged_decode.reference(query, pages, scale=0.125))


@EITHER
@pytest.mark.parametrize(("head_dim", "block_size", "group"), [(128, 16, 8), (64, 32, 1)])
@pytest.mark.parity("shared_prefix")
def test_other_shapes(head_dim: int, block_size: int, group: int, invariant: bool, device: str) -> None:
    pages = made_pages([140, 131, 129], dtype=BF16, kv_heads=1, head_dim=head_dim, block_size=block_size, device=device)
    _share(pages, groups := [0, 3], shared := [128] * 3)
    query = torch.randn(3, group, head_dim).to(device, BF16)
    cuts = _ints(*groups, device=device), _ints(*shared, device=device)
    got = op.launch(query, pages, *cuts, scale=0.1, invariant=invariant)
    assert_near(got, paged_decode.reference(query, pages, scale=0.1))


@EITHER
@pytest.mark.parity("shared_prefix")
def test_nothing_shared_nobody_there_and_empty_groups(invariant: bool, device: str) -> None:
    none = made_pages([], device=device)
    query = torch.randn(0, 4, 64, device=device)
    for groups in (_ints(0, device=device), _ints(0, 0, device=device)):
        assert op.launch(query, none, groups, _ints(device=device), scale=1.0, invariant=invariant).shape == (0, 4, 64)
    pages = made_pages([3, 0, 70], device=device)
    query = torch.randn(3, 2, 64, device=device)
    cuts = _ints(0, 0, 1, 3, 3, device=device), _ints(0, 0, 0, device=device)
    got = op.launch(query, pages, *cuts, scale=0.125, invariant=invariant)
    assert_near(got, paged_decode.reference(query, pages, scale=0.125))


@pytest.mark.parity("shared_prefix")
def test_queries_may_be_part_of_a_larger_tensor(device: str) -> None:
    pages = made_pages([70, 80], dtype=F16, device=device)
    _share(pages, [0, 2], [64, 64])
    query = torch.randn(2, 10, 64, dtype=F16, device=device)[:, 2:8]
    groups, shared = _ints(0, 2, device=device), _ints(64, 64, device=device)
    got = op.launch(query, pages, groups, shared, scale=0.125, invariant=False)
    assert_near(got, paged_decode.reference(query.contiguous(), pages, scale=0.125))


@DTYPES
@pytest.mark.invariant("shared_prefix")
def test_a_sequence_has_the_bits_of_plain_decode(dtype: torch.dtype, stored: torch.dtype, device: str) -> None:
    pages = made_pages([530, 513, 4], dtype=stored, kv_heads=1, device=device)
    _share(pages, [0, 2, 3], [512, 512, 0])
    query = torch.randn(3, 2, 64).to(device, dtype)
    cuts = _ints(0, 2, 3, device=device), _ints(512, 512, 0, device=device)
    got = op.launch(query, pages, *cuts, scale=0.125, invariant=True)
    assert torch.equal(got, paged_decode.launch(query, pages, scale=0.125, invariant=True))


@pytest.mark.parity("shared_prefix")
def test_what_does_not_fit_is_refused() -> None:
    pages, query = made_pages([40, 40]), torch.randn(2, 4, 64)
    with pytest.raises(ValueError, match=r"shared has shape \[1\], wanted \[2\]"):
        op.launch(query, pages, _ints(0, 2), _ints(32), scale=1.0, invariant=True)
    with pytest.raises(ValueError, match="groups is int64, wanted int32"):
        op.launch(query, pages, _ints(0, 2).long(), _ints(32, 32), scale=1.0, invariant=True)
    with pytest.raises(ValueError, match="groups is empty"):
        op.launch(query, pages, _ints(), _ints(32, 32), scale=1.0, invariant=True)


@pytest.mark.parity("shared_prefix")
def test_the_entry_point_looks_at_what_is_shared() -> None:
    pages, query = made_pages([40, 40]), torch.randn(2, 4, 64)
    _share(pages, [0, 2], [32, 32])

    def call(groups: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
        return op.shared_prefix(query, pages, groups, shared, scale=0.125, invariant=True)

    assert torch.equal(call(_ints(0, 2), _ints(32, 32)), paged_decode.reference(query, pages, scale=0.125))
    with pytest.raises(ValueError, match="groups are from 0 to 1, wanted from 0 to 2"):
        call(_ints(0, 1), _ints(32, 32))
    with pytest.raises(ValueError, match=r"shared\[1\] is 16, wanted 32 as in its group"):
        call(_ints(0, 2), _ints(32, 16))
    with pytest.raises(ValueError, match=r"shared\[0\] is 48, .* no more than the context of 40"):
        call(_ints(0, 2), _ints(48, 48))
    with pytest.raises(ValueError, match=r"tables\[1\] has not the first 3 blocks of tables\[0\]"):
        call(_ints(0, 2), _ints(40, 40))
