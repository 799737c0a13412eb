"""The interpreter, as mended, computes what a GPU would."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def _product(a, b, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(a + m[:, None] * K + k[None, :])
    right = tl.load(b + k[:, None] * N + n[None, :])
    tl.store(out + m[:, None] * N + n[None, :], tl.dot(left, right))


@triton.jit
def _converted(x, out, N: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, tl.load(x + n).to(out.dtype.element_ty))


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(a.shape[0], b.shape[1])
    _product[(1,)](a, b, out, a.shape[0], b.shape[1], a.shape[1])
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_products_are_of_values_and_not_of_bits(dtype: torch.dtype) -> None:
    a, b = torch.randn(16, 64).to(dtype), torch.randn(64, 32).to(dtype)
    torch.testing.assert_close(_dot(a, b), a.float() @ b.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_row_of_a_product_is_the_same_at_every_place(dtype: torch.dtype) -> None:
    a, b = torch.randn(32, 64).to(dtype), torch.randn(64, 16).to(dtype)
    together = _dot(a, b)
    for shift in range(1, 32):
        assert torch.equal(_dot(a.roll(shift, 0), b), together.roll(shift, 0))


@pytest.mark.parametrize("target", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_conversions_round_to_the_nearest(target: torch.dtype) -> None:
    x = torch.randn(256) * 8
    out = torch.empty(256, dtype=target)
    _converted[(1,)](x, out, 256)
    assert torch.equal(out.float(), x.to(target).float())
    back = torch.empty(256)
    _converted[(1,)](out, back, 256)
    assert torch.equal(back, out.float())
