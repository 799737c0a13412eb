"""The kernel of `shared_prefix` for what a group of sequences has in common."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.attention.paged_prefill_kernel import find_tile
from coxswain_kernels.attention.tile import add_tiles, no_sums, operand, store_state


@triton.jit(do_not_specialize=["table_stride", "sequences", "piece", "splits", "slots"])
def attend_shared(
    query,
    keys,
    values,
    key_scales,
    value_scales,
    tables,
    starts,
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
    sequences,
    piece,
    splits,
    slots,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    UNIT: tl.constexpr,
    SCALED: tl.constexpr,
    OPERAND: tl.constexpr,
) -> None:
    """A piece of what a group shares, for a tile of its sequences, each with the query heads of a KV head.

    All of them see all of it, and it is whole tiles, so nothing is masked. `starts`: of groups, among `sequences` ones.
    """
    head = tl.program_id(0) % KV_HEADS
    slot = tl.program_id(1)
    group, first = find_tile(starts, sequences, tl.program_id(0) // KV_HEADS, ROWS // GROUP_ROWS)
    start_row = tl.load(starts + group)
    count = tl.load(starts + group + 1) - start_row
    if first >= count:
        return
    length = tl.load(shared + start_row) // UNIT * UNIT
    begin, size = slot * piece, piece
    if piece == 0:
        size = tl.cdiv(tl.cdiv(length, splits), TILE) * TILE
        begin = slot * size
    elif begin >= length:
        return
    row, column = tl.arange(0, ROWS), tl.arange(0, DIM)
    token, member = first + row // GROUP_ROWS, row % GROUP_ROWS
    inside = (token < count) & (member < GROUP)
    place, at_head = (start_row + token).to(tl.int64), head * GROUP + member
    query += (place * query_stride + at_head * query_head_stride)[:, None] + column[None, :]
    rows = operand(tl.load(query, mask=inside[:, None], other=0.0), OPERAND)
    sums, norm, peak = add_tiles(
        *no_sums(ROWS, DIM),
        rows,
        begin,
        tl.minimum(begin + size, length),
        row,
        length - 1,
        scale,
        tables + start_row.to(tl.int64) * table_stride,
        (keys + head.to(tl.int64) * head_stride, values + head.to(tl.int64) * head_stride),
        (key_scales + head, value_scales + head) if SCALED else (),
        (block_stride, token_stride, scale_block_stride, scale_token_stride),
        BLOCK=BLOCK,
        TILE=TILE,
        DIM=DIM,
        SCALED=SCALED,
        MASKED=False,
    )
    kept = (place * KV_HEADS * GROUP + at_head) * slots + slot
    store_state(sums, norm, peak, parts, states, kept, inside, DIM)
