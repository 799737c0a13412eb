"""The paged KV cache of one layer, as kernels see it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape


@dataclass(frozen=True, slots=True)
class KVCache:
    """Keys and values, each [blocks, block_size, kv_heads, head_dim].

    In float8_e4m3fn or int8 they have scales [blocks, block_size, kv_heads] in float32, contiguous: a token's value of
    a head is what is stored times the scale.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    def check(self, *, dtype: torch.dtype, kv_heads: int, head_dim: int) -> None:
        """Raises ValueError unless it holds such heads, in `dtype` or in 8 bits."""
        check_shape("keys", self.keys, None, None, kv_heads, head_dim)
        check_dtype("keys", self.keys, dtype, *EIGHT_BIT)
        check_shape("values", self.values, *self.keys.shape)
        check_dtype("values", self.values, self.keys.dtype)
        check_same_device(keys=self.keys, values=self.values)
        check_last_contiguous(keys=self.keys, values=self.values)
        for name, scales in (("key_scales", self.key_scales), ("value_scales", self.value_scales)):
            if (scales is not None) != (self.keys.dtype in EIGHT_BIT):
                missing = "not wanted" if scales is not None else "missing"
                raise ValueError(f"{name} is {missing}: keys are {str(self.keys.dtype).removeprefix('torch.')}")
            if scales is not None:
                check_shape(name, scales, *self.keys.shape[:3])
                check_dtype(name, scales, torch.float32)
                check_same_device(keys=self.keys, **{name: scales})
                if not scales.is_contiguous():
                    raise ValueError(f"{name} is not contiguous")
