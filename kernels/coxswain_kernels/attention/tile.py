"""Online softmax (Milakov and Gimelshein, 2018; FlashAttention) over tiles of keys in a paged cache, for all kernels.

Where a row's sums meet, their order is fixed by the tile and the piece alone: the maximum is exact in any order, the
products of a tile are added by the matrix unit from first to last, and what the compiler might contract in one kernel
and not in another is written as `fma`. A tile that a row may not see leaves its state as it is, bit for bit.

The state of a row is the sum of its weighted values, the sum of its weights, and its highest score, in powers of 2.
"""

from __future__ import annotations

import triton
import triton.language as tl

EMPTY = tl.constexpr(-1.0e30)
"""The highest of no scores. Finite, so that it can be subtracted from itself."""


@triton.jit
def no_sums(ROWS: tl.constexpr, DIM: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The state before the first tile."""
    sums = tl.zeros([ROWS, DIM], tl.float32)
    return sums, tl.zeros([ROWS], tl.float32), tl.full([ROWS], EMPTY, tl.float32)


@triton.jit
def blocks_of(table, start, last, BLOCK: tl.constexpr, TILE: tl.constexpr) -> tl.tensor:
    """The block of each position from `start` on, and of `last` beyond it."""
    at = tl.minimum(start + tl.arange(0, TILE), last)
    return tl.load(table + at // BLOCK, mask=at >= 0, other=0)


@triton.jit
def add_tiles(
    sums,
    norm,
    peak,
    query,
    begin,
    end,
    sight,
    last,
    scale,
    table,
    stored,
    scales,
    strides,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    DIM: tl.constexpr,
    SCALED: tl.constexpr,
    MASKED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Add the keys at positions from `begin` to `end`; when MASKED, row i sees those up to `sight[i]`.

    What would be read beyond `last` is read there instead, so that loads need no mask and the cache may hold anything
    in places that no token has been written to. `stored` is keys and values, `scales` theirs, both at the right head;
    `strides` those of blocks and tokens, of what is stored and of scales.
    """
    # A load that waited for a load of the same turn would not be pipelined deeply: tables are read a turn ahead.
    block = blocks_of(table, begin, last, BLOCK, TILE)
    for start in range(begin, end, TILE):
        following = blocks_of(table, start + TILE, last, BLOCK, TILE)
        position = start + tl.arange(0, TILE)
        offset = (tl.minimum(position, last) if MASKED else position) % BLOCK
        block = block.to(tl.int64)
        place = (block * strides[0] + offset * strides[1])[:, None] + tl.arange(0, DIM)[None, :]
        key = operand(tl.load(stored[0] + place), query.dtype)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee")
        if SCALED:
            scale_place = block * strides[2] + offset * strides[3]
            scores *= tl.load(scales[0] + scale_place)[None, :]
        if MASKED:
            scores = tl.where(position[None, :] <= sight[:, None], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1) * scale)
        fade = tl.exp2(peak - higher)
        weights = tl.exp2(tl.fma(scores, scale, -higher[:, None]))
        norm = tl.fma(norm, fade, tl.sum(weights, 1))
        if SCALED:
            weights *= tl.load(scales[1] + scale_place)[None, :]
        value = operand(tl.load(stored[1] + place), query.dtype)
        sums = tl.dot(weights.to(query.dtype), value, sums * fade[:, None], input_precision="ieee")
        peak = higher
        block = following
    return sums, norm, peak


@triton.jit
def add_piece(sums, norm, peak, more, more_norm, more_peak) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Join the state of one piece of the context to that of all pieces before it."""
    higher = tl.maximum(peak, more_peak)
    fade, share = tl.exp2(peak - higher), tl.exp2(more_peak - higher)
    norm = tl.fma(norm, fade, more_norm * share)
    sums = tl.fma(sums, fade[:, None], more * share[:, None])
    return sums, norm, higher


@triton.jit
def normalised(sums, norm) -> tl.tensor:
    """Attention, of the sums; zeros where there was nothing to see."""
    return sums / tl.where(norm > 0.0, norm, 1.0)[:, None]


@triton.jit
def store_state(sums, norm, peak, parts, states, place, inside, DIM: tl.constexpr) -> None:
    """Keep the state of a piece for who joins them: row i at `place[i]`."""
    column = tl.arange(0, DIM)
    tl.store(parts + place[:, None] * DIM + column[None, :], sums, mask=inside[:, None])
    tl.store(states + place * 2, peak, mask=inside)
    tl.store(states + place * 2 + 1, norm, mask=inside)


@triton.jit
def operand(x, dtype: tl.constexpr) -> tl.tensor:
    """Stored keys or values for the matrix unit, exactly: e4m3 may come as bytes, where Triton has no such type."""
    if x.dtype == tl.uint8:
        # The exponent of fp16 counts from 15 and that of e4m3 from 7, hence 2 ** 8.
        bits = ((x.to(tl.uint16) & 0x80) << 8) | ((x.to(tl.uint16) & 0x7F) << 7)
        return (bits.to(tl.float16, bitcast=True) * 256.0).to(dtype)
    return x.to(dtype)
