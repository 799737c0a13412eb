"""Kernels of `quantised_linear`.

They compute the transposed product: the weight, whose values are made from its bits in registers, is the left operand,
for which a whole tile of the matrix instructions is filled however few rows there are.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _nibbles(words, place: tl.constexpr, dtype: tl.constexpr, high: tl.constexpr):
    """16 + n, or if `high` 16 * (16 + n), for the `place`-th nibbles n of the halves of words [i, j], as `dtype`
    [i, 2j].

    An exponent of 4, or of 8, with the nibble as the highest bits of the fraction, for both halves at once.
    """
    at: tl.constexpr = 3 if dtype == tl.bfloat16 else 6
    exponent: tl.constexpr = 8 if high else 4
    ones: tl.constexpr = (127 + exponent) << 7 if dtype == tl.bfloat16 else (15 + exponent) << 10
    shift: tl.constexpr = 4 * place - at
    moved = words >> shift if shift >= 0 else words << -shift
    both = (moved & (0xF000F << at)) | (ones * 0x10001)
    return tl.interleave((both & 0xFFFF).to(tl.uint16), (both >> 16).to(tl.uint16)).to(dtype, bitcast=True)


@triton.jit
def _bytes(words, place: tl.constexpr, dtype: tl.constexpr):
    """The `place`-th byte of each half of words [i, j] less 128, as `dtype` [i, 2j]. No step of it rounds."""
    high = (_nibbles(words, 2 * place + 1, dtype, True).to(tl.float32) - 400.0).to(dtype)
    return (high.to(tl.float32) + _nibbles(words, 2 * place, dtype, False).to(tl.float32)).to(dtype)


@triton.jit
def _side_by_side(left, right):
    """[i, 2j] of two [i, j]: their columns, one after the other."""
    both = tl.permute(tl.join(left, right), (0, 2, 1))
    return tl.reshape(both, (left.shape[0], 2 * left.shape[1]))


@triton.jit(do_not_specialize=["rows"])
def multiply_quantised(
    x,
    words,
    scales,
    zeros,
    out,
    rows,
    inner,
    columns,
    x_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BITS: tl.constexpr,
    GROUPED: tl.constexpr,
    ZEROS: tl.constexpr,
    SPLITS: tl.constexpr,
    TOGETHER: tl.constexpr,
) -> None:
    """A tile of columns and of rows, and a part of the groups of 128, a program.

    TOGETHER: how many nibbles of each half of a word go into one multiplication; two are fewer steps, more registers.
    """
    dtype: tl.constexpr = x.dtype.element_ty
    step: tl.constexpr = 4 * BITS  # words of a group
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(2)
    here, column_here = row < rows, column < columns
    groups = inner // 128
    left = words + column.to(tl.int64)[:, None] * (groups * step) + tl.arange(0, step)[None, :]
    right = x + row[None, :] * x_stride + tl.arange(0, 2 * step * TOGETHER)[:, None]
    sums = tl.zeros((COLUMNS, ROWS), tl.float32)
    for group in range(split * groups // SPLITS, (split + 1) * groups // SPLITS):
        packed = tl.load(left + group * step, mask=column_here[:, None], other=0)
        zero = tl.full((COLUMNS,), 8.0, tl.float32)
        if ZEROS:
            zero = tl.load(zeros + group * columns + column, mask=column_here, other=0).to(tl.float32)
        # Rounds nothing, but lets the compiler subtract two at a time.
        offset = (16.0 + zero).to(dtype).to(tl.float32)
        part = tl.zeros((COLUMNS, ROWS), tl.float32) if GROUPED else sums
        for place in tl.static_range(0, 64 // step, TOGETHER):
            some = tl.load(right + group * 128 + place * 2 * step, mask=here[None, :], other=0.0)
            if BITS == 4:
                codes = _nibbles(packed, place, dtype, False)
                if TOGETHER == 2:
                    codes = _side_by_side(codes, _nibbles(packed, place + 1, dtype, False))
                weight = (codes.to(tl.float32) - offset[:, None]).to(dtype)
            else:
                weight = _bytes(packed, place, dtype)
            part = tl.dot(weight, some, part)
        if GROUPED:
            scale = tl.load(scales + group * columns + column, mask=column_here, other=0.0).to(tl.float32)
            sums += part * scale[:, None]
        else:
            sums = part
    if not GROUPED:
        sums *= tl.load(scales + column, mask=column_here, other=0.0).to(tl.float32)[:, None]
    address = out + (split.to(tl.int64) * rows + row[None, :]) * columns + column[:, None]
    tl.store(address, sums.to(out.dtype.element_ty), mask=column_here[:, None] & here[None, :])


@triton.jit(do_not_specialize=["rows"])
def add_splits(parts, out, rows, columns, SPLITS: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """Sums of the parts [SPLITS, rows, columns], in order: a piece of a row a program."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = column < columns
    sums = tl.zeros((BLOCK,), tl.float32)
    for split in tl.static_range(SPLITS):
        sums += tl.load(parts + (split * rows.to(tl.int64) + row) * columns + column, mask=here, other=0.0)
    tl.store(out + row * columns + column, sums.to(out.dtype.element_ty), mask=here)
