"""What Triton 3.7's interpreter does otherwise than a GPU, put right for the tests. Kernels stay as they are.

It multiplies the bit patterns of bf16 operands of `tl.dot`, leaves products to a library that adds in another order at
another place of the tile, and cuts digits off where a GPU rounds to bf16 and to 8 bits. (All other arithmetic of our
kernels is in float32, or on integers.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

_TORCH = {
    tl.float64: torch.float64,
    tl.float32: torch.float32,
    tl.float16: torch.float16,
    tl.bfloat16: torch.bfloat16,
    tl.float8e4nv: torch.float8_e4m3fn,
    tl.float8e5: torch.float8_e5m2,
}
_BITS = {
    8: (np.uint8, torch.uint8),
    16: (np.int16, torch.int16),
    32: (np.int32, torch.int32),
    64: (np.int64, torch.int64),
}


def mend() -> None:
    """Replace `tl.dot` and conversions of floats in this process."""
    InterpreterBuilder.create_dot = _dot
    interpreter._convert_float = _convert_float


def _dot(_: Any, a: TensorHandle, b: TensorHandle, d: TensorHandle, precision: Any, accumulation: Any) -> TensorHandle:
    """Element after element of the inner dimension, so that a row's sums are added alike wherever it is."""
    del precision, accumulation
    left, right, sums = _values(a), _values(b), d.data.copy()
    for k in range(left.shape[-1]):
        sums += (left[..., :, k, None] * right[..., None, k, :]).astype(sums.dtype)
    return TensorHandle(sums, d.dtype.scalar)


def _values(handle: TensorHandle) -> NDArray[Any]:
    """What its bits stand for, exactly: integers as int32, floats as float32."""
    dtype = handle.dtype.scalar
    if not dtype.is_floating():
        return np.asarray(handle.data).astype(np.int32)
    return _convert_float(np.asarray(handle.data), dtype, tl.float32, None).view(np.float32)


def _convert_float(data: NDArray[Any], source: tl.dtype, target: tl.dtype, rounding: Any) -> NDArray[Any]:
    """The bits of `data` as the other type, to the nearest and to even, as torch does it and a GPU by default."""
    del rounding
    array_bits, tensor_bits = _BITS[source.primitive_bitwidth]
    contiguous = np.ascontiguousarray(data).view(array_bits)
    values = torch.from_numpy(contiguous).view(tensor_bits).view(_TORCH[source]).to(_TORCH[target])
    array: NDArray[Any] = values.view(_BITS[target.primitive_bitwidth][1]).numpy()
    return array
