"""What the plans of attention know of a model and its KV cache, and which of them there are kernels for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from coxswain_kernels.launching.plans import pointer

QUERY_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
"""Caches are of the query's dtype; in 8 bits for bfloat16 only."""
HEAD_DIMS = (64, 128)
BLOCK_SIZES = (16, 32)
ALIGNED = frozenset({"query_stride", "query_head_stride", "block_stride", "token_stride", "head_stride"})
"""Strides of a cache that are multiples of 16."""


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
        """Of the parameters that `Pages.arguments` gives, besides the query."""
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
