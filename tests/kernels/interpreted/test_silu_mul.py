"""The gated activation by the kernel is that by torch."""

from __future__ import annotations

import pytest
import torch

from coxswain_kernels.elementwise import silu_mul as op

pytestmark = pytest.mark.usefixtures("device")
DTYPES = pytest.mark.parametrize("dtype", op.DTYPES)


@DTYPES
@pytest.mark.parametrize("shape", [(5, 96), (1, 2), (2, 2 * 1030), (0, 8)])
@pytest.mark.parity("silu_mul")
def test_it_is_what_torch_computes(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    gate_up = torch.randn(shape, dtype=dtype)
    torch.testing.assert_close(op.launch(gate_up), op.reference(gate_up))


@pytest.mark.parity("silu_mul")
def test_rows_may_lie_apart() -> None:
    wide = torch.randn(4, 50)[::2, :24]
    torch.testing.assert_close(op.launch(wide), op.reference(wide))


@DTYPES
@pytest.mark.invariant("silu_mul")
def test_a_row_has_the_same_bits_in_every_company(dtype: torch.dtype) -> None:
    gate_up = torch.randn(7, 64, dtype=dtype)
    together = op.launch(gate_up)
    for row in range(7):
        assert torch.equal(op.launch(gate_up[row : row + 1]), together[row : row + 1])


@pytest.mark.parity("silu_mul")
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gate_up has shape \[2, 3\], wanted \[rows, 2n\]"):
        op.launch(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="gate_up is int32, wanted float32 or float16 or bfloat16"):
        op.launch(torch.zeros(2, 4, dtype=torch.int32))
