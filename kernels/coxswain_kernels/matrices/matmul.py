"""The product of a tile of rows and a tile of columns, as the operations that multiply matrices share it.

The sum runs over k in one order, a block at a time, and never over a part of it only: a row's sums are added alike
wherever the row is, and however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Tile:
    """What one program computes, and how much of k it takes at a time."""

    rows: int
    columns: int
    inner: int
    warps: int = 4
    stages: int = 3


def invariant_tile(dtype: torch.dtype, columns: int) -> Tile:
    """That for every number of rows: tall enough for Hopper's widest instruction, few columns where there are few."""
    if dtype == torch.float32:
        return Tile(64, 64, 16, warps=8, stages=2)
    return Tile(64, 128, 64) if columns >= 8192 else Tile(64, 64, 64, stages=4)


@triton.jit
def product(
    x_rows,
    weight_columns,
    row_here,
    column_here,
    inner,
    weight_stride,
    sums,
    INNER: tl.constexpr,
    EVEN: tl.constexpr,
) -> tl.tensor:
    """`sums` and the product of x [rows, inner] and weight [inner, columns].

    `x_rows` and `weight_columns` are the addresses at which rows and columns begin; EVEN: INNER divides inner.
    """
    k = tl.arange(0, INNER)
    x_tile = x_rows[:, None] + k[None, :]
    weight_tile = weight_columns[None, :] + k[:, None] * weight_stride
    for start in range(0, inner, INNER):
        if EVEN:
            left = tl.load(x_tile, mask=row_here[:, None], other=0.0)
            right = tl.load(weight_tile, mask=column_here[None, :], other=0.0)
        else:
            k_here = start + k < inner
            left = tl.load(x_tile, mask=row_here[:, None] & k_here[None, :], other=0.0)
            right = tl.load(weight_tile, mask=k_here[:, None] & column_here[None, :], other=0.0)
        sums = tl.dot(left, right, sums, input_precision="ieee")
        x_tile += INNER
        weight_tile += INNER * weight_stride
    return sums
