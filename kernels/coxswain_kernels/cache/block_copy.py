"""Blocks of a paged KV cache into one piece of memory and back, to be sent to another engine.

The two sides need not be of one type: what is sent may be in 8 bits and widened at the other end, and an engine with an
8-bit cache may take blocks from one without. Like types are copied bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from coxswain_kernels.cache.block_copy_kernel import block_copy_kernel
from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.cache.quantisation import as_bits, dequantised, encoding, quantised
from coxswain_kernels.launching.checks import (
    check_dtype,
    check_entries,
    check_last_contiguous,
    check_same_device,
    check_shape,
)
from coxswain_kernels.launching.plans import Operation, Plan, pointer

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_PIECE = 4096
"""Elements of a program: each thread has several loads of 16 bytes under way."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Keys or values [layers, blocks, block_size, kv_heads, head_dim]: all of a cache, or some gathered from it."""

    data: Tensor
    scales: Tensor | None = None
    """[layers, blocks, block_size, kv_heads] float32, contiguous within a block; of data in 8 bits."""

    def check(self, name: str) -> None:
        """Raises ValueError when scales do not fit data."""
        check_shape(name, self.data, None, None, None, None, None)
        check_dtype(name, self.data, *DTYPES, *EIGHT_BIT)
        check_last_contiguous(**{name: self.data})
        if (self.scales is not None) != (self.data.dtype in EIGHT_BIT):
            missing = "not wanted" if self.scales is not None else "missing"
            raise ValueError(f"scales of {name} are {missing}: it is {self.data.dtype}".replace("torch.", ""))
        if self.scales is not None:
            check_shape(f"scales of {name}", self.scales, *self.data.shape[:4])
            check_dtype(f"scales of {name}", self.scales, torch.float32)
            if self.scales.shape[-2:].numel() > 1 and self.scales.stride()[-2:] != (self.scales.shape[-1], 1):
                raise ValueError(f"scales of {name} are not contiguous within a block")


def gather_blocks(cache: Blocks, table: Tensor, *, dtype: torch.dtype | None = None) -> Blocks:
    """The blocks of table [entries] int32, one after another, in `dtype`, or in that of the cache.

    Raises ValueError when shapes or dtypes do not fit, or the table leads out of the cache.
    """
    _check_table(cache, table)
    return (reference_gather if table.device.type == "cpu" else launch_gather)(cache, table, dtype=dtype)


def scatter_blocks(packed: Blocks, cache: Blocks, table: Tensor) -> None:
    """Write `packed`, as `gather_blocks` gave it, to the blocks of table [entries] int32, none of them twice.

    Raises as `gather_blocks` does.
    """
    _check_table(cache, table)
    if len(set(table.tolist())) < table.shape[0]:
        raise ValueError("table has a block twice")
    (reference_scatter if table.device.type == "cpu" else launch_scatter)(packed, cache, table)


def reference_gather(cache: Blocks, table: Tensor, *, dtype: torch.dtype | None = None) -> Blocks:
    """The same in plain torch."""
    cache.check("cache")
    data = as_bits(cache.data)[:, table.long()].view(cache.data.dtype)
    scales = None if cache.scales is None else cache.scales[:, table.long()]
    return _converted(Blocks(data, scales), dtype or cache.data.dtype)


def reference_scatter(packed: Blocks, cache: Blocks, table: Tensor) -> None:
    """The same in plain torch."""
    _check(packed, cache, table)
    new = _converted(packed, cache.data.dtype)
    as_bits(cache.data)[:, table.long()] = as_bits(new.data)
    if cache.scales is not None and new.scales is not None:
        cache.scales[:, table.long()] = new.scales


def launch_gather(cache: Blocks, table: Tensor, *, dtype: torch.dtype | None = None) -> Blocks:
    """The same by the kernel. What the table holds is not looked at."""
    cache.check("cache")
    layers, _, *block = cache.data.shape
    data = cache.data.new_empty(layers, *table.shape, *block, dtype=dtype)
    scales = data.new_empty(data.shape[:4], dtype=torch.float32) if data.dtype in EIGHT_BIT else None
    packed = Blocks(data, scales)
    _check(packed, cache, table)
    _move(packed, cache, table, gather=True)
    return packed


def launch_scatter(packed: Blocks, cache: Blocks, table: Tensor) -> None:
    """The same by the kernel. What the table holds is not looked at."""
    _check(packed, cache, table)
    _move(packed, cache, table, gather=False)


def _converted(blocks: Blocks, dtype: torch.dtype) -> Blocks:
    if blocks.data.dtype == dtype:
        return blocks
    _check_conversion(blocks.data.dtype, dtype)
    if blocks.scales is None:
        return Blocks(*quantised(blocks.data, dtype))
    return Blocks(dequantised(blocks.data, blocks.scales, dtype))


def _move(packed: Blocks, cache: Blocks, table: Tensor, *, gather: bool) -> None:
    if packed.data.dtype != cache.data.dtype:
        _run(packed, cache, table, gather=gather)
        return
    _run(Blocks(_words("packed", packed.data)), Blocks(_words("cache", cache.data)), table, gather=gather)
    if packed.scales is not None and cache.scales is not None:
        # A block's scales as one row.
        sent, held = (scales.flatten(2).view(torch.int32)[:, :, None, None] for scales in (packed.scales, cache.scales))
        _run(Blocks(sent), Blocks(held), table, gather=gather)


def _words(name: str, data: Tensor) -> Tensor:
    """The same bytes as words, which are copied alike whatever they stand for."""
    size = 4 // data.itemsize
    if data.shape[-1] % size or data.storage_offset() % size or any(stride % size for stride in data.stride()[:-1]):
        raise ValueError(f"rows of {name} are not of whole words: shape {list(data.shape)}, strides {data.stride()}")
    return data.view(torch.int32)


def _run(packed: Blocks, cache: Blocks, table: Tensor, *, gather: bool) -> None:
    layers, entries, block_size, heads, width = packed.data.shape
    shape = {"block_size": block_size, "heads": heads, "width": width}
    chosen = plan(cache.data.dtype, packed.data.dtype, **shape, gather=gather)
    arguments: dict[str, Any] = {"cache": as_bits(cache.data), "packed": as_bits(packed.data), "table": table}
    strides = zip(("layer", "block", "slot", "head"), cache.data.stride(), strict=False)
    arguments |= {f"{name}_stride": stride for name, stride in strides} | {"entries": entries}
    scales = packed.scales if cache.scales is None else cache.scales
    if scales is not None:
        arguments |= {"scales": scales, "scales_layer": scales.stride(0), "scales_block": scales.stride(1)}
    pieces = triton.cdiv(block_size * heads, chosen.constants["PIECE"])
    chosen.launch((entries * pieces, layers), arguments)


def _check_table(cache: Blocks, table: Tensor) -> None:
    check_shape("cache", cache.data, None, None, None, None, None)
    check_shape("table", table, None)
    check_dtype("table", table, torch.int32)
    check_entries("table", table, below=cache.data.shape[1])


def _check(packed: Blocks, cache: Blocks, table: Tensor) -> None:
    cache.check("cache")
    packed.check("packed")
    check_shape("table", table, None)
    check_dtype("table", table, torch.int32)
    layers, _, *block = cache.data.shape
    check_shape("packed", packed.data, layers, table.shape[0], *block)
    if not packed.data.is_contiguous():
        raise ValueError("packed is not contiguous")
    check_last_contiguous(table=table)
    check_same_device(packed=packed.data, cache=cache.data, table=table)
    if packed.data.dtype != cache.data.dtype:
        _check_conversion(packed.data.dtype, cache.data.dtype)


def _check_conversion(one: torch.dtype, other: torch.dtype) -> None:
    if len({one, other} & set(DTYPES)) != 1 or len({one, other} & set(EIGHT_BIT)) != 1:
        raise ValueError(f"{one} and {other}: wanted the same, or one of 8 bits".replace("torch.", ""))


def plan(cache: torch.dtype, packed: torch.dtype, *, block_size: int, heads: int, width: int, gather: bool) -> Plan:
    """A piece of a block a program; int32 on both sides is a copy."""
    eight_bit = next((dtype for dtype in (cache, packed) if dtype in EIGHT_BIT), None)
    strides = [f"{name}_stride" for name in ("layer", "block", "slot", "head")]
    sides = (("cache", cache), ("packed", packed))
    types = {name: pointer(torch.int8 if dtype in EIGHT_BIT else dtype) for name, dtype in sides}
    types |= {"table": pointer(torch.int32), "entries": "i32"} | dict.fromkeys(strides, "i32")
    scales = {"scales": pointer(torch.float32), "scales_layer": "i32", "scales_block": "i32"}
    columns = triton.next_power_of_2(width)
    rows = min(max(1, _PIECE // columns), triton.next_power_of_2(block_size * heads))
    what = "words" if eight_bit is None else f"{cache} {'to' if gather else 'from'} {packed}".replace("torch.", "")
    return Plan(
        name=f"{'gather' if gather else 'scatter'}, {what}, {block_size} x {heads} x {width}",
        kernel=block_copy_kernel,
        types=types if eight_bit is None else types | scales,
        constants=(dict.fromkeys(scales) if eight_bit is None else {})
        | {"HEADS": heads, "ROWS": block_size * heads, "WIDTH": width, "COLUMNS": columns, "PIECE": rows}
        | {"GATHER": gather, "ENCODING": "" if eight_bit is None else encoding(eight_bit)},
        aligned=frozenset([*strides, "scales_block"]),
        batch=frozenset({"entries"} if eight_bit is None else {"entries", "scales_layer"}),
    )


def plans() -> tuple[Plan, ...]:
    """Those of an 8B model: copies of its rows of 32, 16 and 8 bits and of scales, and every conversion."""
    copies = [(torch.int32, torch.int32, 16, 8, width) for width in (128, 64, 32)]
    copies.append((torch.int32, torch.int32, 1, 1, 128))
    pairs = [pair for one in DTYPES for other in EIGHT_BIT for pair in ((one, other), (other, one))]
    return tuple(
        plan(cache, packed, block_size=block_size, heads=heads, width=width, gather=gather)
        for cache, packed, block_size, heads, width in [*copies, *((*pair, 16, 8, 128) for pair in pairs)]
        for gather in (True, False)
    )


OPERATION = Operation(name="block_copy", plans=plans)
