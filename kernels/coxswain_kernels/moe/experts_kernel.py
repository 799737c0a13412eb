"""Kernels of `experts`."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.matrices.matmul import product


@triton.jit(do_not_specialize=["tile_count", "pairs"])
def multiply_groups(
    x,
    weight,
    weights,
    order,
    tiles,
    out,
    tile_count,
    pairs,
    inner,
    columns,
    x_stride,
    weight_stride,
    expert_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    EVEN: tl.constexpr,
    SHARE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """Rows of x by the weights of their groups: a tile of pairs and of columns a program."""
    across = tl.cdiv(columns, COLUMNS)
    place = tl.program_id(0)
    tile, column_tile = tl.swizzle2d(place // across, place % across, tile_count, across, GROUP)
    expert = tl.load(tiles + tile)
    if expert >= 0:
        pair = tl.load(order + tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        column = column_tile * COLUMNS + tl.arange(0, COLUMNS)
        here, column_here = pair < pairs, column < columns
        own = weight + expert.to(tl.int64) * expert_stride
        sums = tl.zeros((ROWS, COLUMNS), tl.float32)
        x_rows = x + pair // SHARE * x_stride
        sums = product(x_rows, own + column, here, column_here, inner, weight_stride, sums, INNER, EVEN)
        if WEIGHTED:
            # Rounded as a layer's output is, before the weight.
            sums = sums.to(out.dtype.element_ty).to(tl.float32)
            sums *= tl.load(weights + pair, mask=here, other=0.0)[:, None]
        address = out + pair[:, None] * columns + column[None, :]
        tl.store(address, sums.to(out.dtype.element_ty), mask=here[:, None] & column_here[None, :])


@triton.jit
def add_ranks(parts, chosen, out, columns, experts, TOP_K: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """Sums over the pairs of a token, in the order of their ranks: a piece of a row a program."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = column < columns
    sums = tl.zeros((BLOCK,), tl.float32)
    for rank in tl.static_range(TOP_K):
        pair = row * TOP_K + rank
        expert = tl.load(chosen + pair)
        computed = here & (expert >= 0) & (expert < experts)
        sums += tl.load(parts + pair * columns + column, mask=computed, other=0.0).to(tl.float32)
    tl.store(out + row * columns + column, sums.to(out.dtype.element_ty), mask=here)
