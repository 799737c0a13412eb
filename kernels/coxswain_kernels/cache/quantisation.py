"""Rows in 8 bits with one scale each: e4m3 and int8, of the same bits on every accelerator.

`value = stored * scale`. Conversions are integer arithmetic: sm_80 has no instructions for e4m3, and gfx942 has them
for another e4m3.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

DTYPES = (torch.float8_e4m3fn, torch.int8)
_HIGHEST = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}
_LOWEST = 2.0**-100


def quantised(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x [..., n] as `dtype`, one of DTYPES, and its scales [...] in float32: the largest of a row is the dtype's."""
    highest = x.float().abs().amax(-1).clamp(min=_LOWEST)
    scales = highest * (1.0 / _HIGHEST[dtype])
    stored = x.float() / scales.unsqueeze(-1)
    return (stored.round() if dtype == torch.int8 else stored).to(dtype), scales


def dequantised(stored: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of stored [..., n] with scales [...]."""
    return (stored.float() * scales.unsqueeze(-1)).to(dtype)


def encoding(dtype: torch.dtype) -> str:
    """How kernels know `dtype`: `e4m3`, `int8`, or empty for what needs no scale."""
    return {torch.float8_e4m3fn: "e4m3", torch.int8: "int8"}.get(dtype, "")


def as_bits(x: Tensor) -> Tensor:
    """What a kernel is given: 8-bit tensors as int8, others as they are."""
    return x.view(torch.int8) if x.dtype in DTYPES else x


@triton.jit
def row_scale(highest, ENCODING: tl.constexpr) -> tl.tensor:
    """Scale of rows whose largest absolute value is `highest`."""
    # Multiplied by the reciprocal, as torch does it above; 2^-100 keeps the scale of a row of zeros above zero.
    return tl.maximum(highest, 2.0**-100) * (1.0 / 448.0 if ENCODING == "e4m3" else 1.0 / 127.0)


@triton.jit
def encode(x, scale, ENCODING: tl.constexpr) -> tl.tensor:
    """`x / scale` in float32, to the nearest and to even, as bits of 8."""
    y = tl.div_rn(x, scale)
    if ENCODING == "int8":
        # The sum has no place for fractions: it rounds them as IEEE 754 tells, on every accelerator.
        return ((y + 12582912.0) - 12582912.0).to(tl.int8)
    bits = y.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    # Three bits of the fraction stay; the exponent's bias becomes 7.
    normal = (size + 0x7FFFF + ((size >> 20) & 1) >> 20) - (120 << 3)
    # Below 2^-6, multiples of 2^-9: what is left of a number behind 2^14.
    small = (tl.abs(y) + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
    code = tl.where(size < 0x3C800000, small, tl.minimum(normal, 0x7E))
    code = tl.where(size > 0x7F800000, 0x7F, code)
    return (code | ((bits >> 24) & 0x80)).to(tl.int8)


@triton.jit
def decode(stored, scale, ENCODING: tl.constexpr) -> tl.tensor:
    """`stored * scale` in float32."""
    if ENCODING == "int8":
        return stored.to(tl.float32) * scale
    bits = stored.to(tl.int16)
    # The same fraction and exponent in fp16, whose bias is greater by 8.
    half = (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True)
    value = tl.where((bits & 0x7F) == 0x7F, float("nan"), half.to(tl.float32) * 256.0)
    return value * scale
