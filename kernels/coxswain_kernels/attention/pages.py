"""Pages of a KV cache as the kernels of attention take them: checks, and the arguments that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coxswain_kernels.attention.layout import BLOCK_SIZES, HEAD_DIMS, QUERY_DTYPES, Layout
from coxswain_kernels.cache.kv_cache import KVCache
from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.launching.checks import (
    check_dtype,
    check_entries,
    check_last_contiguous,
    check_one_of,
    check_same_device,
    check_shape,
)
from coxswain_kernels.launching.targets import target_of


@dataclass(frozen=True, slots=True)
class Pages:
    """What sequences have of a KV cache, whose keys and values are strided alike."""

    cache: KVCache
    tables: Tensor
    """int32 [sequences, max_blocks]: the blocks of each, in the order of its tokens."""
    contexts: Tensor
    """int32 [sequences]: tokens of each that are in the cache; 0 for a place of the batch that nobody has."""

    def layout(self, query: Tensor) -> Layout:
        """Of attention of query [rows, heads, head_dim]. Raises ValueError where there is no kernel for it."""
        self._check_tensors(query)
        _, block_size, kv_heads, head_dim = self.cache.keys.shape
        heads = query.shape[1]
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
        keys = self.cache.keys
        known = keys.dtype != torch.float8_e4m3fn or target_of(keys.device) == "sm_90"
        return keys.dtype if known else torch.uint8

    def _check_tensors(self, query: Tensor) -> None:
        keys, values = self.cache.keys, self.cache.values
        check_dtype("query", query, *QUERY_DTYPES)
        self.cache.check(query.dtype, *(EIGHT_BIT if query.dtype == torch.bfloat16 else ()))
        check_shape("query", query, None, None, keys.shape[3])
        check_shape("contexts", self.contexts, None)
        check_shape("tables", self.tables, self.contexts.shape[0], None)
        check_dtype("tables", self.tables, torch.int32)
        check_dtype("contexts", self.contexts, torch.int32)
        check_last_contiguous(query=query, tables=self.tables, contexts=self.contexts)
        check_same_device(query=query, keys=keys, tables=self.tables, contexts=self.contexts)
        if keys.stride() != values.stride():
            raise ValueError(f"keys have strides {keys.stride()}, values {values.stride()}, wanted the same")
        scales, others = self.cache.key_scales, self.cache.value_scales
        if scales is not None and others is not None and scales.stride() != others.stride():
            raise ValueError(f"key_scales have strides {scales.stride()}, value_scales {others.stride()}")

    def check(self, query: Tensor) -> None:
        """There is a kernel for query, and every block that a context reaches is one of the cache.

        Raises ValueError. Reads the device.
        """
        self.layout(query)
        blocks, block_size = self.cache.keys.shape[:2]
        room = self.tables.shape[1] * block_size
        for place, context in enumerate(self.contexts.tolist()):
            if not 0 <= context <= room:
                raise ValueError(f"contexts[{place}] is {context}, its table has room for {room} tokens")
        reached = (self.contexts + block_size - 1) // block_size
        check_entries("tables", self.tables, below=blocks, counts=reached)

    def reach(self, longest: int | None) -> int:
        """The most tokens that a context can have, as far as the host knows."""
        room = self.tables.shape[1] * self.cache.keys.shape[1]
        return room if longest is None else min(longest, room)

    def arguments(self, query: Tensor, scale: float) -> dict[str, Any]:
        """Those of the kernels that `Layout.types` names; scores are counted in powers of 2.

        Raises ValueError when scale is not above 0.
        """
        if not scale > 0:
            raise ValueError(f"scale is {scale}, wanted more than 0")
        cache, stored = self.cache, self._stored()
        block_stride, token_stride, head_stride, _ = cache.keys.stride()
        given: dict[str, Any] = {"query": query, "keys": cache.keys.view(stored), "values": cache.values.view(stored)}
        given |= {"tables": self.tables, "scale": scale * 1.4426950408889634}
        given |= {"query_stride": query.stride(0), "query_head_stride": query.stride(1)}
        given |= {"block_stride": block_stride, "token_stride": token_stride, "head_stride": head_stride}
        given |= {"table_stride": self.tables.stride(0), "scale_block_stride": 0, "scale_token_stride": 0}
        if (scales := cache.key_scales) is not None:
            given |= {"key_scales": scales, "value_scales": cache.value_scales}
            given |= {"scale_block_stride": scales.stride(0), "scale_token_stride": scales.stride(1)}
        return given

    def gathered(self, sequence: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one sequence, float32 [context, kv_heads, head_dim]. Reads the device."""
        context, block_size = int(self.contexts[sequence]), self.cache.keys.shape[1]
        position = torch.arange(context, device=self.tables.device)
        return self.cache.at(self.tables[sequence].long()[position // block_size], position % block_size)
