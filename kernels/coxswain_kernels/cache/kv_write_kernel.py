"""The kernel of `kv_write`."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.cache import quantisation


@triton.jit
def kv_write_kernel(
    query,
    key,
    value,
    cos,
    sin,
    positions,
    slots,
    keys,
    values,
    key_scales,
    value_scales,
    query_norm,
    key_norm,
    out,
    eps,
    query_stride,
    query_head,
    key_stride,
    key_head,
    value_stride,
    value_head,
    keys_block,
    keys_slot,
    keys_head,
    values_block,
    values_slot,
    values_head,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ENCODING: tl.constexpr,
) -> None:
    """A KV head of a token: its query heads, its key, its value."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    table = tl.load(positions + token) * 2 * HALF + tl.arange(0, HALF)[None, :]
    cos_low, cos_high = tl.load(cos + table).to(tl.float32), tl.load(cos + table + HALF).to(tl.float32)
    sin_low, sin_high = tl.load(sin + table).to(tl.float32), tl.load(sin + table + HALF).to(tl.float32)

    rows = tl.arange(0, ROWS)[:, None]
    heads = head * GROUP + rows
    low, high = _halves(query + token * query_stride + heads * query_head, rows < GROUP, query_norm, eps, HALF)
    to = out + (token * KV_HEADS * GROUP + heads) * 2 * HALF + tl.arange(0, HALF)[None, :]
    tl.store(to, (low * cos_low + high * sin_low).to(out.dtype.element_ty), mask=rows < GROUP)
    tl.store(to + HALF, (high * cos_high + low * sin_high).to(out.dtype.element_ty), mask=rows < GROUP)

    slot = tl.load(slots + token)
    if slot >= 0:
        block, offset = slot // BLOCK_SIZE, slot % BLOCK_SIZE
        zero = tl.zeros([1, 1], tl.int32)
        first, second = _halves(key + token * key_stride + head * key_head + zero, zero == 0, key_norm, eps, HALF)
        keys_low = first * cos_low + second * sin_low
        keys_high = second * cos_high + first * sin_high
        scale = slot * KV_HEADS + head
        place = keys + block * keys_block + offset * keys_slot + head * keys_head
        _store(place, keys_low, keys_high, key_scales, scale, HALF, ENCODING)
        first, second = _halves(value + token * value_stride + head * value_head + zero, zero == 0, None, eps, HALF)
        place = values + block * values_block + offset * values_slot + head * values_head
        _store(place, first, second, value_scales, scale, HALF, ENCODING)


@triton.jit
def _halves(row, inside, weight, eps, HALF: tl.constexpr):
    """Both halves of rows, in float32, normalised where there is a weight; rounded where `rms_norm` rounds."""
    columns = tl.arange(0, HALF)[None, :]
    low = tl.load(row + columns, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(row + HALF + columns, mask=inside, other=0.0).to(tl.float32)
    if weight is not None:
        dtype = weight.dtype.element_ty
        scale = tl.rsqrt(tl.sum(low * low + high * high, axis=1) / (2 * HALF) + eps)[:, None]
        low, high = (low * scale).to(dtype).to(tl.float32), (high * scale).to(dtype).to(tl.float32)
        low *= tl.load(weight + columns).to(tl.float32)
        high *= tl.load(weight + HALF + columns).to(tl.float32)
        low, high = low.to(dtype).to(tl.float32), high.to(dtype).to(tl.float32)
    return low, high


@triton.jit
def _store(to, low, high, scales, place, HALF: tl.constexpr, ENCODING: tl.constexpr):
    """A row to the cache, in 8 bits where it has scales."""
    columns = to + tl.arange(0, HALF)[None, :]
    if scales is not None:
        highest = tl.max(tl.maximum(tl.abs(low), tl.abs(high)))
        scale = quantisation.row_scale(highest, ENCODING)
        tl.store(scales + place, scale)
        low, high = quantisation.encode(low, scale, ENCODING), quantisation.encode(high, scale, ENCODING)
    tl.store(columns, low.to(to.dtype.element_ty))
    tl.store(columns + HALF, high.to(to.dtype.element_ty))
