"""A linear layer by the kernel is that by torch, and a row of it does not know the others."""

from __future__ import annotations

import pytest
import torch

from coxswain_kernels.matrices import linear as op
from coxswain_kernels.matrices.matmul import DTYPES

EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES)


@EACH_DTYPE
@pytest.mark.parametrize("shape", [(5, 128, 40), (1, 96, 64), (70, 33, 65), (0, 16, 16)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parity("linear")
def test_it_is_what_torch_computes(dtype: torch.dtype, shape: tuple[int, int, int], bias: bool, device: str) -> None:
    rows, inner, columns = shape
    x, weight = torch.randn(rows, inner, device=device), torch.randn(inner, columns, device=device) / inner**0.5
    offset = torch.randn(columns, device=device).to(dtype) if bias else None
    got = op.launch(x.to(dtype), weight.to(dtype), offset)
    torch.testing.assert_close(got, op.reference(x.to(dtype), weight.to(dtype), offset))


@pytest.mark.parity("linear")
def test_a_wide_layer_has_a_wide_tile_and_the_same_result(device: str) -> None:
    x, weight = torch.randn(2, 64, device=device).half(), torch.randn(64, 8200, device=device).half() / 8
    torch.testing.assert_close(op.launch(x, weight), op.reference(x, weight))


@pytest.mark.parity("linear")
def test_rows_may_lie_apart(device: str) -> None:
    x, weight = torch.randn(6, 100, device=device)[::2, :32], torch.randn(32, 80, device=device)[:, 16:40]
    torch.testing.assert_close(op.launch(x, weight), op.reference(x, weight))


@EACH_DTYPE
@pytest.mark.invariant("linear")
def test_a_row_has_the_same_bits_in_every_company(dtype: torch.dtype, device: str) -> None:
    x, weight = torch.randn(67, 80, device=device).to(dtype), torch.randn(80, 24, device=device).to(dtype)
    together = op.launch(x, weight)
    for row in (0, 1, 63, 64, 66):
        assert torch.equal(op.launch(x[row : row + 1], weight), together[row : row + 1])
    assert torch.equal(op.launch(x[3:50], weight), together[3:50])
    assert torch.equal(op.launch(x.flip(0), weight), together.flip(0))


@pytest.mark.parity("linear")
def test_what_does_not_fit_is_refused() -> None:
    x, weight = torch.zeros(2, 4), torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"weight has shape \[3, 4\], wanted \[4, any\]"):
        op.launch(x, weight.t())
    with pytest.raises(ValueError, match=r"bias has shape \[4\], wanted \[3\]"):
        op.launch(x, weight, torch.zeros(4))
    with pytest.raises(ValueError, match="weight is float16, wanted float32"):
        op.launch(x, weight.half())
    with pytest.raises(ValueError, match="weight has stride 4 in its last dimension"):
        op.launch(x, torch.zeros(3, 4).t())
