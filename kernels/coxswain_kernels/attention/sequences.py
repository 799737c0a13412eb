"""A paged KV cache as the attention kernels take it: its checks, what plans know of it, and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from coxswain_kernels.launching.checks import (
    check_dtype,
    check_entries,
    check_last_contiguous,
    check_one_of,
    check_same_device,
    check_shape,
)
from coxswain_kernels.launching.plans import pointer
from coxswain_kernels.launching.targets import target_of

QUERY_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
QUANTISED = (torch.float8_e4m3fn, torch.int8)
"""Types of caches with a scale per token and head, for queries of bfloat16."""
HEAD_DIMS = (64, 128)
BLOCK_SIZES = (16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a plan knows: the model and its cache, and nothing of the batch."""

    dtype: torch.dtype
    """Of queries and results."""
    stored: torch.dtype
    """Of the cache; uint8 is e4m3 for devices without it, taken apart by the kernel."""
    head_dim: int = 128
    heads: int = 32
    kv_heads: int = 8
    block_size: int = 16

    @property
    def group(self) -> int:
        """Query heads of a KV head."""
        return self.heads // self.kv_heads

    @property
    def group_rows(self) -> int:
        """Rows that the query heads of a KV head take in a tile."""
        rows: int = triton.next_power_of_2(self.group)
        return rows

    @property
    def scaled(self) -> bool:
        """Whether keys and values come with scales."""
        return self.stored != self.dtype

    @property
    def name(self) -> str:
        """For names of plans."""
        stored = "e4m3 as bytes" if self.stored == torch.uint8 else self.stored
        return f"{self.dtype}, cache {stored}, head {self.head_dim}".replace("torch.", "")

    @property
    def notes(self) -> dict[str, str]:
        """Of plans: bytes are for devices that know no e4m3."""
        if self.stored == torch.uint8:
            return {"sm_80": "dequantised", "sm_90": "unsupported: has e4m3fn", "gfx942": "dequantised"}
        if self.stored == torch.float8_e4m3fn:
            return dict.fromkeys(("sm_80", "gfx942"), "unsupported: no e4m3fn, which is taken as bytes")
        return {}

    def types(self) -> dict[str, str]:
        """Of the parameters that `Cache.arguments` gives, besides the query."""
        kinds = {"query": pointer(self.dtype), "keys": pointer(self.stored), "values": pointer(self.stored)}
        kinds |= {"tables": "*i32", "scale": "fp32", "table_stride": "i32"}
        if self.scaled:
            kinds |= {"key_scales": "*fp32", "value_scales": "*fp32"}
        return kinds | dict.fromkeys(ALIGNED | {"scale_block_stride", "scale_token_stride"}, "i32")

    def constants(self) -> dict[str, Any]:
        """Of the kernels; 8-bit keys and values are multiplied in fp16, which has every value of both."""
        operand = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16}.get(self.stored, tl.float16)
        absent: dict[str, Any] = {} if self.scaled else {"key_scales": None, "value_scales": None}
        return absent | {
            "KV_HEADS": self.kv_heads,
            "GROUP": self.group,
            "DIM": self.head_dim,
            "BLOCK": self.block_size,
            "SCALED": self.scaled,
            "OPERAND": operand,
        }


ALIGNED = frozenset({"query_stride", "query_head_stride", "block_stride", "token_stride", "head_stride"})
"""Strides of a cache that are multiples of 16."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values [blocks, block_size, kv_heads, head_dim], strided alike, and the tables that lead to them.

    Of a cache of 8 bits a value is what is stored times its scale, float32 [blocks, block_size, kv_heads].
    """

    keys: Tensor
    values: Tensor
    tables: Tensor
    """int32 [sequences, max_blocks]."""
    contexts: Tensor
    """int32 [sequences]: tokens of each that are in the cache; 0 for a place of the batch that nobody has."""
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    def layout(self, query: Tensor) -> Layout:
        """Of attention of query [rows, heads, head_dim]. Raises ValueError where there is no kernel for it."""
        if self.keys.dim() != 4 or query.dim() != 3:
            wanted = "wanted [blocks, block_size, kv_heads, head_dim] and [rows, heads, head_dim]"
            raise ValueError(f"keys have shape {list(self.keys.shape)}, query {list(query.shape)}, {wanted}")
        _, block_size, kv_heads, head_dim = self.keys.shape
        heads = query.shape[1]
        self._check_tensors(query)
        check_one_of("head_dim", head_dim, HEAD_DIMS)
        check_one_of("block_size", block_size, BLOCK_SIZES)
        if heads % kv_heads or heads // kv_heads > 16:
            raise ValueError(f"query has {heads} heads for {kv_heads} of keys, wanted 1 to 16 for each")
        return Layout(
            dtype=query.dtype,
            stored=self._stored(),
            head_dim=head_dim,
            heads=heads,
            kv_heads=kv_heads,
            block_size=block_size,
        )

    def _stored(self) -> torch.dtype:
        """As what the device takes it: e4m3 as bytes where it has no such type."""
        known = self.keys.dtype != torch.float8_e4m3fn or target_of(self.keys.device) == "sm_90"
        return self.keys.dtype if known else torch.uint8

    def _check_tensors(self, query: Tensor) -> None:
        sequences = self.contexts.shape[0]
        check_shape("query", query, None, None, self.keys.shape[3])
        check_shape("values", self.values, *self.keys.shape)
        check_shape("tables", self.tables, sequences, None)
        check_dtype("query", query, *QUERY_DTYPES)
        check_dtype("keys", self.keys, query.dtype, *(QUANTISED if query.dtype == torch.bfloat16 else ()))
        check_dtype("values", self.values, self.keys.dtype)
        check_dtype("tables", self.tables, torch.int32)
        check_dtype("contexts", self.contexts, torch.int32)
        check_last_contiguous(query=query, keys=self.keys, tables=self.tables, contexts=self.contexts)
        check_same_device(query=query, keys=self.keys, values=self.values, tables=self.tables, contexts=self.contexts)
        if self.keys.stride() != self.values.stride():
            raise ValueError(f"keys have strides {self.keys.stride()}, values {self.values.stride()}, wanted the same")
        for name, scales in (("key_scales", self.key_scales), ("value_scales", self.value_scales)):
            self._check_scales(name, scales)

    def _check_scales(self, name: str, scales: Tensor | None) -> None:
        if self.keys.dtype not in QUANTISED:
            if scales is not None:
                raise ValueError(f"{name} are given, but keys are {self.keys.dtype}".replace("torch.", ""))
            return
        if scales is None or self.key_scales is None:
            raise ValueError(f"{name} are missing, wanted for keys that are {self.keys.dtype}".replace("torch.", ""))
        check_shape(name, scales, *self.keys.shape[:3])
        check_dtype(name, scales, torch.float32)
        check_last_contiguous(**{name: scales})
        check_same_device(keys=self.keys, **{name: scales})
        if scales.stride() != self.key_scales.stride():
            raise ValueError(f"{name} have strides {scales.stride()}, key_scales {self.key_scales.stride()}")

    def reach(self, longest: int | None) -> int:
        """The most tokens that a context can have, as far as the host knows."""
        room = self.tables.shape[1] * self.keys.shape[1]
        return room if longest is None else min(longest, room)

    def check_places(self) -> None:
        """Every block that a context reaches is one of the cache. Raises ValueError. Reads the device."""
        blocks, block_size = self.keys.shape[:2]
        room = self.tables.shape[1] * block_size
        for place, context in enumerate(self.contexts.tolist()):
            if not 0 <= context <= room:
                raise ValueError(f"contexts[{place}] is {context}, its table has room for {room} tokens")
        reached = (self.contexts + block_size - 1) // block_size
        check_entries("tables", self.tables, below=blocks, counts=reached)

    def arguments(self, query: Tensor, scale: float) -> dict[str, Any]:
        """Those of the kernels that `Layout.types` names; scores are counted in powers of 2.

        Raises ValueError when scale is not above 0.
        """
        if not scale > 0:
            raise ValueError(f"scale is {scale}, wanted more than 0")
        block_stride, token_stride, head_stride, _ = self.keys.stride()
        keys, values = (kept.view(self._stored()) for kept in (self.keys, self.values))
        given: dict[str, Any] = {"query": query, "keys": keys, "values": values}
        given |= {"tables": self.tables, "scale": scale * 1.4426950408889634}
        given |= {"query_stride": query.stride(0), "query_head_stride": query.stride(1)}
        given |= {"block_stride": block_stride, "token_stride": token_stride, "head_stride": head_stride}
        given |= {"table_stride": self.tables.stride(0), "scale_block_stride": 0, "scale_token_stride": 0}
        if self.key_scales is not None and self.value_scales is not None:
            given |= {"key_scales": self.key_scales, "value_scales": self.value_scales}
            given |= {"scale_block_stride": self.key_scales.stride(0), "scale_token_stride": self.key_scales.stride(1)}
        return given

    def gathered(self, sequence: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one sequence, float32 [context, kv_heads, head_dim]. Reads the device."""
        context, block_size = int(self.contexts[sequence]), self.keys.shape[1]
        position = torch.arange(context, device=self.keys.device)
        block, offset = self.tables[sequence].long()[position // block_size], position % block_size
        both = []
        for stored, scales in ((self.keys, self.key_scales), (self.values, self.value_scales)):
            taken = (
                stored.view(torch.uint8)[block, offset].view(stored.dtype)
                if stored.itemsize == 1
                else stored[block, offset]
            )
            both.append(taken.float() if scales is None else taken.float() * scales[block, offset].unsqueeze(-1))
        return both[0], both[1]


def attention(query: Tensor, cache: Cache, starts: list[int], *, scale: float) -> Tensor:
    """Causal attention in plain torch and float32. Reads the device.

    Rows `starts[i]` to `starts[i + 1]` of query [rows, heads, head_dim] are the last tokens of sequence i.
    """
    out = torch.zeros_like(query, memory_format=torch.contiguous_format)
    group = query.shape[1] // cache.keys.shape[2]
    for sequence, (first, end) in enumerate(pairwise(starts)):
        keys, values = (kept.repeat_interleave(group, 1) for kept in cache.gathered(sequence))
        context = keys.shape[0]
        if first == end or not context:
            continue
        position = torch.arange(context - (end - first), context, device=query.device)
        hidden = torch.arange(context, device=query.device) > position[:, None]
        scores = torch.einsum("qhd,khd->hqk", query[first:end].float(), keys) * scale
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        out[first:end] = torch.einsum("hqk,khd->qhd", weights, values).to(query.dtype)
    return out
