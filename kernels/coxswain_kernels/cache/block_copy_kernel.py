"""The kernel of `block_copy`."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.cache import quantisation


@triton.jit(do_not_specialize=["entries", "scales_layer"])
def block_copy_kernel(
    cache,
    packed,
    scales,
    table,
    entries,
    layer_stride,
    block_stride,
    slot_stride,
    head_stride,
    scales_layer,
    scales_block,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    PIECE: tl.constexpr,
    GATHER: tl.constexpr,
    ENCODING: tl.constexpr,
) -> None:
    """A piece of a block of a layer, from the cache or to it: PIECE of its ROWS, one of each slot and head."""
    pieces: tl.constexpr = (ROWS + PIECE - 1) // PIECE
    entry, layer = (tl.program_id(0) // pieces).to(tl.int64), tl.program_id(1).to(tl.int64)
    block = tl.load(table + entry).to(tl.int64)
    rows = (tl.program_id(0) % pieces) * PIECE + tl.arange(0, PIECE)
    columns = tl.arange(0, COLUMNS)[None, :]
    inside = (rows < ROWS)[:, None] & (columns < WIDTH)
    offsets = rows // HEADS * slot_stride + rows % HEADS * head_stride
    there = cache + layer * layer_stride + block * block_stride + offsets[:, None] + columns
    here = packed + ((layer * entries + entry) * ROWS + rows)[:, None] * WIDTH + columns
    x = tl.load(there if GATHER else here, mask=inside, other=0)
    if scales is not None:
        # Scales lie beside what is in 8 bits.
        held = block if cache.dtype.element_ty == tl.int8 else entry
        places = scales + layer * scales_layer + held * scales_block + rows
        if x.dtype == tl.int8:
            x = quantisation.decode(x, tl.load(places, mask=rows < ROWS, other=0.0)[:, None], ENCODING)
        else:
            x = x.to(tl.float32)
            scale = quantisation.row_scale(tl.max(tl.abs(x), axis=1), ENCODING)
            tl.store(places, scale, mask=rows < ROWS)
            x = quantisation.encode(x, scale[:, None], ENCODING)
    if GATHER:
        tl.store(here, x.to(packed.dtype.element_ty), mask=inside)
    else:
        tl.store(there, x.to(cache.dtype.element_ty), mask=inside)
