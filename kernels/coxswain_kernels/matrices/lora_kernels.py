"""Kernels of `lora` and of its backward pass. Rows come in tiles of one adapter, whose ranks lie side by side."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.matrices.matmul import product


@triton.jit(do_not_specialize=["rows"])
def to_ranks(
    x,
    matrix,
    starts,
    order,
    tiles,
    out,
    rows,
    inner,
    x_stride,
    matrix_stride,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PIECE: tl.constexpr,
    INNER: tl.constexpr,
    EVEN: tl.constexpr,
) -> None:
    """x times the transposed matrix, over a piece of the inner dimension: a tile of rows and a piece a program."""
    tile, piece = tl.program_id(0), tl.program_id(1)
    adapter = tl.load(tiles + tile)
    if adapter >= 0:
        first = tl.load(starts + adapter)
        row = tl.load(order + tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        rank = tl.arange(0, WIDTH)
        here, has_rank = row < rows, rank < tl.load(starts + adapter + 1) - first
        begin = piece * PIECE
        x_rows = x + row * x_stride + begin
        of_ranks = matrix + (first + rank).to(tl.int64) * matrix_stride + begin
        sums = tl.zeros((ROWS, WIDTH), tl.float32)
        length = tl.minimum(PIECE, inner - begin)
        sums = product(x_rows, of_ranks, here, has_rank, length, 1, sums, INNER, EVEN)
        address = out + (piece.to(tl.int64) * rows + row[:, None]) * WIDTH + rank[None, :]
        tl.store(address, sums, mask=here[:, None])


@triton.jit
def _hidden(hidden, row, here, rank, rows, pieces, WIDTH: tl.constexpr):
    """Ranks of rows, their pieces added in order."""
    address = hidden + row[:, None] * WIDTH + rank[None, :]
    sums = tl.load(address, mask=here[:, None], other=0.0)
    for _ in range(1, pieces):
        address += rows.to(tl.int64) * WIDTH
        sums += tl.load(address, mask=here[:, None], other=0.0)
    return sums


@triton.jit(do_not_specialize=["rows"])
def from_ranks(
    hidden,
    matrix,
    scales,
    starts,
    order,
    tiles,
    y,
    rows,
    columns,
    pieces,
    y_stride,
    matrix_stride,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """Adds the ranks times the matrix to y: a tile of rows and of columns a program."""
    tile = tl.program_id(0)
    adapter = tl.load(tiles + tile)
    if adapter >= 0:
        first = tl.load(starts + adapter)
        row = tl.load(order + tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        here, column_here = row < rows, column < columns
        ranks, scale = tl.load(starts + adapter + 1) - first, tl.load(scales + adapter)
        address = y + row[:, None] * y_stride + column[None, :]
        inside = here[:, None] & column_here[None, :]
        sums = tl.load(address, mask=inside, other=0.0).to(tl.float32)
        for begin in range(0, ranks, INNER):
            rank = begin + tl.arange(0, INNER)
            scaled = _hidden(hidden, row, here, rank, rows, pieces, WIDTH) * scale
            of_ranks = matrix + (first + rank).to(tl.int64)[:, None] * matrix_stride + column[None, :]
            right = tl.load(of_ranks, mask=(rank < ranks)[:, None] & column_here[None, :], other=0.0)
            sums = tl.dot(scaled.to(right.dtype), right, sums, input_precision="ieee")
        tl.store(address, sums.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def gradient_of_ranks(
    hidden,
    x,
    scales,
    starts,
    order,
    places,
    out,
    rows,
    columns,
    pieces,
    x_stride,
    out_stride,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """The transposed ranks of an adapter's rows times x's columns of those: an adapter and some columns a program."""
    adapter = tl.program_id(0)
    first = tl.load(starts + adapter)
    rank, column = tl.arange(0, WIDTH), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    has_rank, column_here = rank < tl.load(starts + adapter + 1) - first, column < columns
    scale = tl.load(scales + adapter)
    sums = tl.zeros((WIDTH, COLUMNS), tl.float32)
    for place in range(tl.load(places + adapter), tl.load(places + adapter + 1), ROWS):
        row = tl.load(order + place + tl.arange(0, ROWS)).to(tl.int64)
        here = row < rows
        scaled = _hidden(hidden, row, here, rank, rows, pieces, WIDTH) * scale
        address = x + row[:, None] * x_stride + column[None, :]
        right = tl.load(address, mask=here[:, None] & column_here[None, :], other=0.0)
        sums = tl.dot(tl.trans(scaled.to(right.dtype)), right, sums, input_precision="ieee")
    address = out + (first + rank).to(tl.int64)[:, None] * out_stride + column[None, :]
    tl.store(address, sums.to(out.dtype.element_ty), mask=has_rank[:, None] & column_here[None, :])
