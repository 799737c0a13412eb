"""The kernel of `paged_prefill`: a tile of one sequence's tokens, each with the query heads of a KV head."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.attention.tile import add_piece, add_tiles, no_sums, normalised, operand


@triton.jit
def find_tile(starts, sequences, tile, TOKENS: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """The sequence that a tile is of, and the first of its tokens there.

    Sequence i is given the tiles from `starts[i] // TOKENS + i` on: one more than it needs, at most. So the host need
    not know where sequences start, only how many rows and sequences there are.
    """
    low, high = tl.full((), 0, tl.int32), sequences
    while high - low > 1:
        middle = (low + high) // 2
        if tl.load(starts + middle) // TOKENS + middle <= tile:
            low = middle
        else:
            high = middle
    return low.to(tl.int64), (tile - tl.load(starts + low) // TOKENS - low) * TOKENS


@triton.jit(do_not_specialize=["table_stride", "sequences", "tiles"])
def attend_chunk(
    query,
    keys,
    values,
    key_scales,
    value_scales,
    tables,
    contexts,
    starts,
    out,
    scale,
    query_stride,
    query_head_stride,
    block_stride,
    token_stride,
    head_stride,
    scale_block_stride,
    scale_token_stride,
    table_stride,
    sequences,
    tiles,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PIECE: tl.constexpr,
    SCALED: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:
    """Without PIECE, keys that all rows see are taken without a mask; with it, piece by piece as in decode."""
    head = (tl.program_id(0) % KV_HEADS).to(tl.int64)
    # Later tiles see more keys: they start first.
    tile = tiles - 1 - tl.program_id(0) // KV_HEADS
    sequence, first = find_tile(starts, sequences, tile, ROWS // GROUP_ROWS)
    start_row = tl.load(starts + sequence)
    count = tl.load(starts + sequence + 1) - start_row
    if first >= count:
        return
    last = tl.load(contexts + sequence) - 1
    row, column = tl.arange(0, ROWS), tl.arange(0, DIM)
    token, member = first + row // GROUP_ROWS, row % GROUP_ROWS
    inside = ((token < count) & (member < GROUP))[:, None]
    place, at_head = (start_row + token).to(tl.int64), head * GROUP + member
    query += (place * query_stride + at_head * query_head_stride)[:, None] + column[None, :]
    rows = operand(tl.load(query, mask=inside, other=0.0), OPERAND)
    begin = last + 1 - count + first
    sight = tl.minimum(begin + row // GROUP_ROWS, last)
    end = tl.minimum(begin + ROWS // GROUP_ROWS, last + 1)
    table = tables + sequence * table_stride
    stored = (keys + head * head_stride, values + head * head_stride)
    scales = (key_scales + head, value_scales + head) if SCALED else ()
    strides = (block_stride, token_stride, scale_block_stride, scale_token_stride)
    state = no_sums(ROWS, DIM)
    if PIECE == 0:
        seen = (begin + 1) // TILE * TILE
        for half in tl.static_range(2):
            state = add_tiles(
                *state,
                rows,
                seen if half else 0,
                end if half else seen,
                sight,
                last,
                scale,
                table,
                stored,
                scales,
                strides,
                BLOCK=BLOCK,
                TILE=TILE,
                DIM=DIM,
                SCALED=SCALED,
                MASKED=half == 1,
            )
    else:
        for piece in range(0, end, PIECE):
            more = add_tiles(
                *no_sums(ROWS, DIM),
                rows,
                piece,
                tl.minimum(piece + PIECE, end),
                sight,
                last,
                scale,
                table,
                stored,
                scales,
                strides,
                BLOCK=BLOCK,
                TILE=TILE,
                DIM=DIM,
                SCALED=SCALED,
                MASKED=True,
            )
            state = add_piece(*state, *more)
    result = normalised(state[0], state[1]).to(out.dtype.element_ty)
    out += ((place * KV_HEADS * GROUP + at_head) * DIM)[:, None] + column[None, :]
    tl.store(out, result, mask=inside)
