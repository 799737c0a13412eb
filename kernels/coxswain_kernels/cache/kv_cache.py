"""The paged KV cache of one layer, as kernels see it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.cache.quantisation import as_bits, dequantised
from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape


@dataclass(frozen=True, slots=True)
class KVCache:
    """Keys and values, each [blocks, block_size, kv_heads, head_dim].

    In float8_e4m3fn or int8 they have scales [blocks, block_size, kv_heads] in float32: a token's value of a head is
    what is stored times the scale.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    def check(self, *dtypes: torch.dtype, kv_heads: int | None = None, head_dim: int | None = None) -> None:
        """Raises ValueError unless it holds such heads, in one of `dtypes`."""
        check_shape("keys", self.keys, None, None, kv_heads, head_dim)
        check_dtype("keys", self.keys, *dtypes)
        check_shape("values", self.values, *self.keys.shape)
        check_dtype("values", self.values, self.keys.dtype)
        check_same_device(keys=self.keys, values=self.values)
        check_last_contiguous(keys=self.keys, values=self.values)
        for name, scales in (("key_scales", self.key_scales), ("value_scales", self.value_scales)):
            self._check_scales(name, scales)

    def _check_scales(self, name: str, scales: Tensor | None) -> None:
        if (scales is not None) != (self.keys.dtype in EIGHT_BIT):
            missing = "not wanted" if scales is not None else "missing"
            raise ValueError(f"{name} is {missing}: keys are {str(self.keys.dtype).removeprefix('torch.')}")
        if scales is not None:
            check_shape(name, scales, *self.keys.shape[:3])
            check_dtype(name, scales, torch.float32)
            check_same_device(keys=self.keys, **{name: scales})
            check_last_contiguous(**{name: scales})

    def at(self, block: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """What keys and values stand for at some places [tokens], in float32 [tokens, kv_heads, head_dim]."""
        both = []
        for stored, scales in ((self.keys, self.key_scales), (self.values, self.value_scales)):
            # As bits, which torch indexes on every device.
            taken = as_bits(stored)[block, offset].view(stored.dtype)
            both.append(taken.float() if scales is None else dequantised(taken, scales[block, offset], torch.float32))
        return both[0], both[1]
