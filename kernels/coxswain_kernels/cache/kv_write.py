"""Keys and values to their slots of a paged KV cache, rotated on the way, with the query rotated beside them.

One pass over what the projection has written, instead of rotation, copies and (for 8-bit caches) a search for scales.
A token's results depend on that token only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from coxswain_kernels.cache import quantisation
from coxswain_kernels.cache.kv_cache import KVCache
from coxswain_kernels.cache.kv_write_kernel import kv_write_kernel
from coxswain_kernels.elementwise import rms_norm
from coxswain_kernels.elementwise.rotary import rotary
from coxswain_kernels.launching.checks import (
    check_dtype,
    check_entries,
    check_last_contiguous,
    check_one_of,
    check_same_device,
    check_shape,
)
from coxswain_kernels.launching.plans import Operation, Plan, pointer

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
HEAD_SIZES = (16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """Weights [head_dim] by which the heads of query and key are normalised before they are rotated (Qwen3)."""

    query: Tensor
    key: Tensor
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the projection made of some tokens, and where they are."""

    query: Tensor
    """[tokens, heads, head_dim]."""
    key: Tensor
    """[tokens, kv_heads, head_dim]."""
    value: Tensor
    """[tokens, kv_heads, head_dim]."""
    positions: Tensor
    """[tokens] int64: rows of the tables."""
    slots: Tensor
    """[tokens] int64: block x block_size + offset, each at most once; -1 where nothing is to be kept."""


def kv_write(tokens: Tokens, cos: Tensor, sin: Tensor, cache: KVCache, norms: HeadNorms | None = None) -> Tensor:
    """Write the rotated keys, and the values, to their slots; the rotated query [tokens, heads, head_dim].

    cos and sin, of the query's dtype, as `rotary_tables` makes them. Raises ValueError when shapes, dtypes or indices
    do not fit.
    """
    _check(tokens, cos, sin, cache, norms)
    check_entries("positions", tokens.positions, below=cos.shape[0])
    check_entries("slots", tokens.slots.clamp(min=0), below=cache.keys.shape[0] * cache.keys.shape[1])
    run = reference if tokens.query.device.type == "cpu" else launch
    return run(tokens, cos, sin, cache, norms)


def reference(tokens: Tokens, cos: Tensor, sin: Tensor, cache: KVCache, norms: HeadNorms | None = None) -> Tensor:
    """The same in plain torch."""
    query, key = tokens.query, tokens.key
    if norms is not None:
        query = rms_norm.reference(query, norms.query, norms.eps)
        key = rms_norm.reference(key, norms.key, norms.eps)
    table = cos[tokens.positions].float(), sin[tokens.positions].float()
    kept = (tokens.slots >= 0).nonzero().squeeze(-1)
    size = cache.keys.shape[1]
    places = tokens.slots[kept] // size, tokens.slots[kept] % size
    rotated = rotary(key.float(), *table)
    for held, scales, new in (
        (cache.keys, cache.key_scales, rotated),
        (cache.values, cache.value_scales, tokens.value),
    ):
        stored = new[kept]
        if scales is not None:
            stored, scales[places] = quantisation.quantised(stored, held.dtype)
        quantisation.as_bits(held)[places] = quantisation.as_bits(stored.to(held.dtype))
    return rotary(query.float(), *table).to(query.dtype)


def launch(tokens: Tokens, cos: Tensor, sin: Tensor, cache: KVCache, norms: HeadNorms | None = None) -> Tensor:
    """The same by the kernel. What `positions` and `slots` hold is not looked at."""
    _check(tokens, cos, sin, cache, norms)
    query, keys = tokens.query, cache.keys
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    arguments: dict[str, Any] = {"cos": cos, "sin": sin, "out": out}
    arguments |= {"positions": tokens.positions, "slots": tokens.slots}
    for name, tensor in (("query", query), ("key", tokens.key), ("value", tokens.value)):
        arguments |= {name: tensor, f"{name}_stride": tensor.stride(0), f"{name}_head": tensor.stride(1)}
    for name, tensor in (("keys", keys), ("values", cache.values)):
        block, slot, head, _ = tensor.stride()
        arguments |= {name: quantisation.as_bits(tensor)}
        arguments |= {f"{name}_block": block, f"{name}_slot": slot, f"{name}_head": head}
    if cache.key_scales is not None:
        arguments |= {"key_scales": cache.key_scales, "value_scales": cache.value_scales}
    if norms is not None:
        arguments |= {"query_norm": norms.query, "key_norm": norms.key, "eps": norms.eps}
    heads = {"heads": query.shape[1], "kv_heads": keys.shape[2], "head_dim": keys.shape[3]}
    chosen = plan(query.dtype, keys.dtype, **heads, block_size=keys.shape[1], norms=norms is not None)
    chosen.launch((query.shape[0], keys.shape[2]), arguments)
    return out


def _check(tokens: Tokens, cos: Tensor, sin: Tensor, cache: KVCache, norms: HeadNorms | None) -> None:
    query = tokens.query
    check_shape("query", query, None, None, None)
    check_dtype("query", query, *DTYPES)
    count, heads, head_dim = query.shape
    check_one_of("head_dim", head_dim, HEAD_SIZES)
    check_shape("key", tokens.key, count, None, head_dim)
    kv_heads = tokens.key.shape[1]
    if kv_heads == 0 or heads % kv_heads:
        raise ValueError(f"query has {heads} heads, wanted a multiple of the {kv_heads} of key")
    check_shape("value", tokens.value, count, kv_heads, head_dim)
    cache.check(query.dtype, *quantisation.DTYPES, kv_heads=kv_heads, head_dim=head_dim)
    check_shape("cos", cos, None, 1, head_dim)
    check_shape("sin", sin, cos.shape[0], 1, head_dim)
    same = {"query": query, "key": tokens.key, "value": tokens.value, "cos": cos, "sin": sin}
    if norms is not None:
        check_shape("query_norm", norms.query, head_dim)
        check_shape("key_norm", norms.key, head_dim)
        same |= {"query_norm": norms.query, "key_norm": norms.key}
    for name, tensor in same.items():
        check_dtype(name, tensor, query.dtype)
    lists = {"positions": tokens.positions, "slots": tokens.slots}
    for name, tensor in lists.items():
        check_shape(name, tensor, count)
        check_dtype(name, tensor, torch.int64)
    check_last_contiguous(**same, **lists)
    check_same_device(**same, **lists, keys=cache.keys)
    whole = {"cos": cos, "sin": sin, "key_scales": cache.key_scales, "value_scales": cache.value_scales}
    for name, maybe in whole.items():
        if maybe is not None and not maybe.is_contiguous():
            raise ValueError(f"{name} is not contiguous")


def plan(
    dtype: torch.dtype, cache: torch.dtype, *, heads: int, kv_heads: int, head_dim: int, block_size: int, norms: bool
) -> Plan:
    """A KV head of a token a program, with the query heads that look at it."""
    held = dtype if cache == dtype else torch.int8
    scales = ("key_scales", "value_scales")
    weights = ("query_norm", "key_norm", "eps")
    strides = ("query", "key", "value", "query_head", "key_head", "value_head")
    integers = {f"{name}_stride" if "_" not in name else name: "i32" for name in strides}
    integers |= {f"{name}_{part}": "i32" for name in ("keys", "values") for part in ("block", "slot", "head")}
    types = {name: pointer(dtype) for name in ("query", "key", "value", "cos", "sin", "out")}
    types |= {name: pointer(torch.int64) for name in ("positions", "slots")}
    types |= {name: pointer(held) for name in ("keys", "values")} | integers
    types |= {name: pointer(torch.float32) for name in scales if cache != dtype}
    types |= {name: "fp32" if name == "eps" else pointer(dtype) for name in weights if norms}
    return Plan(
        name=f"{dtype}, cache {cache}, {heads}/{kv_heads} x {head_dim}{', norms' if norms else ''}".replace(
            "torch.", ""
        ),
        kernel=kv_write_kernel,
        types=types,
        constants={name: None for name in (*scales, *weights) if name not in types}
        | {"KV_HEADS": kv_heads, "GROUP": heads // kv_heads, "ROWS": triton.next_power_of_2(heads // kv_heads)}
        | {"HALF": head_dim // 2, "BLOCK_SIZE": block_size, "ENCODING": quantisation.encoding(cache)},
        aligned=frozenset(integers),
        warps=1,
    )


def plans() -> tuple[Plan, ...]:
    """Those of an 8B model: Llama's, and Qwen3's with normalised heads."""
    heads = {"heads": 32, "kv_heads": 8, "head_dim": 128, "block_size": 16}
    return tuple(
        plan(dtype, cache, **heads, norms=norms)
        for dtype in DTYPES
        for cache in (dtype, *quantisation.DTYPES)
        for norms in (False, True)
    )


OPERATION = Operation(name="kv_write", plans=plans)
