"""Adapters by the kernels are adapters by torch, and a row does not know whose adapters the others have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from coxswain_kernels.matrices import lora as op
from coxswain_kernels.matrices.matmul import DTYPES

EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES)
RANKS = (8, 16, 1, 64, 0, 24)


def _adapters(dtype: torch.dtype, device: str, *, inner: int = 72, columns: int = 40) -> op.Adapters:
    starts = torch.tensor([0, *RANKS]).cumsum(0).to(device, torch.int32)
    return op.Adapters(
        down=torch.randn(sum(RANKS), inner).div(inner**0.5).to(device, dtype),
        up=torch.randn(sum(RANKS), columns).div(4).to(device, dtype),
        starts=starts,
        scales=torch.linspace(0.5, 2.0, len(RANKS)).to(device),
        max_rank=64,
    )


def _index(rows: int, device: str) -> Tensor:
    return torch.randint(-1, len(RANKS) + 1, (rows,), dtype=torch.int32).to(device)


def _added(y: Tensor, x: Tensor, adapters: op.Adapters, index: Tensor) -> Tensor:
    return op.launch(y.clone(), x, adapters, op.sort_rows(index, adapters))


@EACH_DTYPE
@pytest.mark.parametrize("rows", [0, 1, 45])
@pytest.mark.parity("lora")
def test_it_is_what_torch_computes(dtype: torch.dtype, rows: int, device: str) -> None:
    adapters, index = _adapters(dtype, device), _index(rows, device)
    x, y = torch.randn(rows, 72).to(device, dtype), torch.randn(rows, 40).to(device, dtype)
    adapters.check()
    got, wanted = _added(y, x, adapters, index), op.reference(y.clone(), x, adapters, index)
    torch.testing.assert_close(got, wanted, atol=1e-2 if dtype != torch.float32 else 1e-5, rtol=1e-2)
    without = (index < 0) | (index >= len(RANKS))
    assert torch.equal(got[without], y[without])


@pytest.mark.parity("lora")
def test_long_sums_are_cut_into_pieces(device: str) -> None:
    adapters, index = _adapters(torch.float32, device, inner=1100), _index(9, device)
    x, y = torch.randn(9, 1100, device=device), torch.randn(9, 40, device=device)
    torch.testing.assert_close(_added(y, x, adapters, index), op.reference(y.clone(), x, adapters, index))


@pytest.mark.parity("lora")
def test_it_adds_to_a_part_of_wider_rows(device: str) -> None:
    adapters, index = _adapters(torch.float32, device), _index(6, device)
    x, wide = torch.randn(12, 80, device=device)[::2, :72], torch.randn(6, 100, device=device)
    wanted = op.reference(wide[:, 20:60].clone(), x, adapters, index)
    before = wide.clone()
    op.launch(wide[:, 20:60], x, adapters, op.sort_rows(index, adapters))
    torch.testing.assert_close(wide[:, 20:60], wanted)
    assert torch.equal(wide[:, :20], before[:, :20])
    assert torch.equal(wide[:, 60:], before[:, 60:])


@EACH_DTYPE
@pytest.mark.invariant("lora")
def test_a_row_has_the_same_bits_in_every_company(dtype: torch.dtype, device: str) -> None:
    adapters, index = _adapters(dtype, device, inner=600), _index(40, device)
    x, y = torch.randn(40, 600).to(device, dtype), torch.randn(40, 40).to(device, dtype)
    together = _added(y, x, adapters, index)
    for row in range(0, 40, 9):
        one = slice(row, row + 1)
        assert torch.equal(_added(y[one], x[one], adapters, index[one]), together[one])
    assert torch.equal(_added(y.flip(0), x.flip(0), adapters, index.flip(0)), together.flip(0))


@pytest.mark.parity("lora")
def test_what_does_not_fit_is_refused() -> None:
    adapters = _adapters(torch.float32, "cpu")
    groups = op.sort_rows(torch.zeros(2, dtype=torch.int32), adapters)
    with pytest.raises(ValueError, match=r"rows has shape \[2, 70\], wanted \[any, 72\]"):
        op.launch(torch.zeros(2, 40), torch.zeros(2, 70), adapters, groups)
    with pytest.raises(ValueError, match=r"y has shape \[3, 40\], wanted \[2, any\]"):
        op.launch(torch.zeros(3, 40), torch.zeros(2, 72), adapters, groups)
    with pytest.raises(ValueError, match="adapter 3 has rank 64, wanted 0 to 32"):
        replace(adapters, max_rank=32).check()
    with pytest.raises(ValueError, match="max_rank is 256, wanted 1 to 128"):
        replace(adapters, max_rank=256).check()
    with pytest.raises(ValueError, match="starts are from 0 to 113, wanted 0 to 100"):
        replace(adapters, down=adapters.down[:100], up=adapters.up[:100]).check()
    with pytest.raises(ValueError, match="up is float16, wanted float32"):
        replace(adapters, up=adapters.up.half()).check()
