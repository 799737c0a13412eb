"""Normalisation by the kernel is normalisation by torch."""

from __future__ import annotations

import pytest
import torch

from coxswain_kernels.elementwise import rms_norm as op

pytestmark = pytest.mark.usefixtures("device")
DTYPES = pytest.mark.parametrize("dtype", op.DTYPES)
SHAPES = pytest.mark.parametrize("shape", [(5, 48), (1, 1), (3, 257), (0, 16)])


@DTYPES
@SHAPES
@pytest.mark.parity("rms_norm")
def test_it_is_what_torch_computes(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x, weight = torch.randn(shape, dtype=dtype), torch.randn(shape[1], dtype=dtype)
    torch.testing.assert_close(op.launch(x, weight, 1e-5), op.reference(x, weight, 1e-5))


@DTYPES
@pytest.mark.parity("rms_norm")
def test_the_residual_is_added_and_kept(dtype: torch.dtype) -> None:
    x, residual, weight = torch.randn(4, 40, dtype=dtype), torch.randn(4, 40, dtype=dtype), torch.ones(40, dtype=dtype)
    sums = x + residual
    got = op.launch(x, weight, 1e-5, residual=residual)
    assert torch.equal(residual, sums)
    torch.testing.assert_close(got, op.reference(sums, weight, 1e-5))


@pytest.mark.parity("rms_norm")
def test_rows_may_lie_apart() -> None:
    wide, weight = torch.randn(6, 100), torch.randn(64)
    torch.testing.assert_close(op.launch(wide[::2, :64], weight, 1e-5), op.reference(wide[::2, :64], weight, 1e-5))


@DTYPES
@pytest.mark.invariant("rms_norm")
def test_a_row_has_the_same_bits_in_every_company(dtype: torch.dtype) -> None:
    x, weight = torch.randn(9, 72, dtype=dtype), torch.randn(72, dtype=dtype)
    together = op.launch(x, weight, 1e-5)
    for row in range(9):
        assert torch.equal(op.launch(x[row : row + 1], weight, 1e-5), together[row : row + 1])
    assert torch.equal(op.launch(x.flip(0), weight, 1e-5), together.flip(0))


@pytest.mark.parity("rms_norm")
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight has shape \[3\], wanted \[4\]"):
        op.launch(torch.zeros(2, 4), torch.zeros(3), 1e-5)
    with pytest.raises(ValueError, match="weight is float16, wanted float32"):
        op.launch(torch.zeros(2, 4), torch.zeros(4, dtype=torch.float16), 1e-5)
    with pytest.raises(ValueError, match="x has stride 2 in its last dimension"):
        op.launch(torch.zeros(2, 8)[:, ::2], torch.zeros(4), 1e-5)
