"""Weights of linear layers in 4 or 8 bits, in groups of 128 inputs, as `quantised_linear` reads them.

A column's codes lie one behind the other, group by group. Byte i of a group holds the code of input 64 * (i % 2) +
i // 2, and if codes have 4 bits, in its high nibble that of the input 32 further: so a word's halves hold neighbours,
and one operation on a word makes two values of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coxswain_kernels.launching.checks import (
    check_dtype,
    check_last_contiguous,
    check_one_of,
    check_same_device,
    check_shape,
)

GROUP = 128
DTYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedWeight:
    """A weight [in, out]: (code - zero point) * scale."""

    bits: int
    values: Tensor
    """Codes [out, in * bits / 8], uint8."""
    scales: Tensor
    """[in / 128, out], or [1, out] for a scale a column; of the dtype of the rows that are multiplied."""
    zeros: Tensor | None = None
    """Zero points of 4 bits, shaped as the scales, uint8; without them 8 of 4 bits, 128 of 8 bits."""

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out)."""
        return self.values.shape[1] * 8 // self.bits, self.values.shape[0]

    @property
    def grouped(self) -> bool:
        """Whether there is a scale for each group, and not for each column."""
        return self.bits == 4 or self.scales.shape[0] > 1

    def check(self) -> None:
        """Raises ValueError when shapes or dtypes do not fit."""
        check_one_of("bits", self.bits, (4, 8))
        check_shape("values", self.values, None, None)
        inner, columns = self.shape
        check_inner(inner)
        check_shape("scales", self.scales, inner // GROUP if self.grouped else 1, columns)
        check_dtype("values", self.values, torch.uint8)
        check_dtype("scales", self.scales, *DTYPES)
        tensors = {"values": self.values, "scales": self.scales}
        if self.zeros is not None:
            check_one_of("bits of a weight with zero points", self.bits, (4,))
            check_shape("zeros", self.zeros, *self.scales.shape)
            check_dtype("zeros", self.zeros, torch.uint8)
            tensors["zeros"] = self.zeros
        check_same_device(**tensors)
        check_last_contiguous(**tensors)
        if not all(tensor.is_contiguous() for tensor in tensors.values()):
            raise ValueError("a quantised weight is not contiguous")


def check_inner(inner: int) -> None:
    """There are whole groups of inputs only."""
    if inner % GROUP or not inner:
        raise ValueError(f"a weight has {inner} inputs, wanted a multiple of {GROUP}")


def pack(weight: Tensor, *, bits: int, by_column: bool = False, zero_points: bool = False) -> QuantisedWeight:
    """Quantise weight [in, out] to the nearest codes.

    `by_column`: one scale a column (8 bits only); `zero_points`: use the range from the least to the greatest value (4
    bits only), otherwise it is symmetric. Raises ValueError for another dtype than float16 and bfloat16, and when `in`
    is no multiple of 128.
    """
    check_one_of("bits", bits, (8,) if by_column else (4,) if zero_points else (4, 8))
    check_shape("weight", weight, None, None)
    check_dtype("weight", weight, *DTYPES)
    inner, columns = weight.shape
    check_inner(inner)
    groups = weight.float().reshape(-1, inner if by_column else GROUP, columns)
    low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
    most = 2**bits - 1
    step = (high - low) / most if zero_points else torch.maximum(-low, high) / (most // 2)
    # Codes are for the scales as they are kept; a group of zeros has any.
    scales = step.to(weight.dtype)
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    middle = (-low / scales).round().clamp(0, most) if zero_points else torch.full_like(low, 2 ** (bits - 1))
    codes = ((groups / scales).round() + middle).clamp(0, most).to(torch.uint8).reshape(inner, columns)
    return QuantisedWeight(
        bits=bits,
        values=_interleave(codes, bits),
        scales=scales.squeeze(1),
        zeros=middle.squeeze(1).to(torch.uint8) if zero_points else None,
    )


def unpack(weight: QuantisedWeight) -> Tensor:
    """The weight [in, out] that it stands for, in float32."""
    inner, columns = weight.shape
    codes = _codes(weight.values, weight.bits).float().reshape(weight.scales.shape[0], -1, columns)
    middle = float(2 ** (weight.bits - 1)) if weight.zeros is None else weight.zeros.float().unsqueeze(1)
    return ((codes - middle) * weight.scales.float().unsqueeze(1)).reshape(inner, columns)


def _interleave(codes: Tensor, bits: int) -> Tensor:
    """Bytes [out, ...] of codes [in, out]."""
    columns = codes.shape[1]
    halves = codes.t().reshape(columns, -1, 2, GROUP // 2)
    if bits == 4:
        halves = halves[..., :32] | (halves[..., 32:] << 4)
    return halves.transpose(2, 3).reshape(columns, -1)


def _codes(values: Tensor, bits: int) -> Tensor:
    """Codes [in, out] of bytes [out, ...]."""
    columns = values.shape[0]
    halves = values.reshape(columns, -1, GROUP * bits // 16, 2).transpose(2, 3)
    if bits == 4:
        halves = torch.cat((halves & 15, halves >> 4), -1)
    return halves.reshape(columns, -1).t()
