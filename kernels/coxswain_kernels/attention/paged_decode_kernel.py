"""The kernels of `paged_decode`: one that attends to a piece of a context, and one that joins the pieces."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.attention.tile import EMPTY, add_piece, add_tiles, no_sums, normalised, operand, store_state


@triton.jit(do_not_specialize=["table_stride", "unit", "piece", "splits", "slots", "first_slot"])
def attend_piece(
    query,
    keys,
    values,
    key_scales,
    value_scales,
    tables,
    contexts,
    shared,
    parts,
    states,
    scale,
    query_stride,
    query_head_stride,
    block_stride,
    token_stride,
    head_stride,
    scale_block_stride,
    scale_token_stride,
    table_stride,
    unit,
    piece,
    splits,
    slots,
    first_slot,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    SCALED: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:
    """One piece of one sequence for the query heads of one KV head, which are the rows of a tile."""
    sequence = (tl.program_id(0) // KV_HEADS).to(tl.int64)
    head = (tl.program_id(0) % KV_HEADS).to(tl.int64)
    slot = tl.program_id(1)
    context = tl.load(contexts + sequence)
    # Tokens that are attended to for a whole group, elsewhere; none where the unit is more than any context.
    own = tl.load(shared + sequence) // unit * unit
    begin, size = slot * piece, piece
    if piece == 0:
        # As even as tiles allow, whatever the length: also where the grid was fixed when a CUDA graph was captured.
        size = tl.cdiv(tl.cdiv(context - own, splits), TILE) * TILE
        begin = own + slot * size
    elif (begin < own) | (begin >= context):
        return
    row, column = tl.arange(0, ROWS), tl.arange(0, DIM)
    inside = (row < GROUP)[:, None]
    query += sequence * query_stride + (head * GROUP + row)[:, None] * query_head_stride + column[None, :]
    rows = operand(tl.load(query, mask=inside, other=0.0), OPERAND)
    sums, norm, peak = add_tiles(
        *no_sums(ROWS, DIM),
        rows,
        begin,
        tl.minimum(begin + size, context),
        tl.full([ROWS], context - 1, tl.int32),
        context - 1,
        scale,
        tables + sequence * table_stride,
        (keys + head * head_stride, values + head * head_stride),
        (key_scales + head, value_scales + head) if SCALED else (),
        (block_stride, token_stride, scale_block_stride, scale_token_stride),
        BLOCK=BLOCK,
        TILE=TILE,
        DIM=DIM,
        SCALED=SCALED,
        MASKED=True,
    )
    place = ((sequence * KV_HEADS + head) * GROUP + row) * slots + first_slot + slot
    store_state(sums, norm, peak, parts, states, place, row < GROUP, DIM)


@triton.jit(do_not_specialize=["piece", "slots"])
def join_pieces(
    parts, states, contexts, out, piece, slots, HEADS: tl.constexpr, DIM: tl.constexpr, UNROLL: tl.constexpr
) -> None:
    """The result of one query head of one sequence: its pieces, in their order."""
    row = tl.program_id(0).to(tl.int64)
    count = slots
    if piece > 0:
        count = tl.cdiv(tl.load(contexts + row // HEADS), piece)
    one, column = tl.arange(0, 1), tl.arange(0, DIM)
    sums, norm, peak = no_sums(1, DIM)
    for first in range(0, count, UNROLL):
        for step in tl.static_range(UNROLL):
            slot = row * slots + first + step + one
            inside = first + step + one < count
            more_peak = tl.load(states + slot * 2, mask=inside, other=EMPTY)
            more_norm = tl.load(states + slot * 2 + 1, mask=inside, other=0.0)
            more = tl.load(parts + slot[:, None] * DIM + column[None, :], mask=inside[:, None], other=0.0)
            sums, norm, peak = add_piece(sums, norm, peak, more, more_norm, more_peak)
    result = normalised(sums, norm).to(out.dtype.element_ty)
    tl.store(out + (row + one)[:, None] * DIM + column[None, :], result)
