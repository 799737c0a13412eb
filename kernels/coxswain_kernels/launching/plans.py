"""How an operation is launched: which kernel, with which constants, and what each accelerator can make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

_TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.float8_e5m2: "fp8e5",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
}


def pointer(dtype: torch.dtype) -> str:
    """Triton's name of a pointer to `dtype`."""
    return f"*{_TYPES[dtype]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One binary of a kernel: everything that the compiler is told, and nothing else.

    A batch-invariant plan is made without being told anything of the batch: tiles and the split of the context are
    fixed, so that a row's sums are added in the same order in every company.
    """

    name: str
    """What tells it from the other plans of its operation: data types, shapes, `fast` or `invariant`."""
    kernel: Any
    """A function under `triton.jit`."""
    types: Mapping[str, str]
    """Of the parameters that are given at the launch, by name: `*bf16`, `i32`, ..."""
    constants: Mapping[str, Any]
    """Of the parameters that are compiled in."""
    aligned: frozenset[str] = frozenset()
    """Integers that are multiples of 16, besides all pointers, which are aligned to 16 bytes."""
    batch: frozenset[str] = frozenset()
    """Integers that depend on the batch: never compiled in, so that one binary serves every batch."""
    warps: int = 4
    stages: int = 2
    tensor_cores: bool = False
    """Whether it multiplies matrices: then the binary must have instructions for that."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """By target: `dequantised` and the like, or `unsupported: reason`, and then it is not compiled."""

    def launch(self, grid: tuple[int, ...], arguments: Mapping[str, Any]) -> None:
        """Run it; nothing when the grid is empty.

        Raises TypeError when `arguments` are not the parameters in `types`.
        """
        if arguments.keys() != self.types.keys():
            raise TypeError(f"{self.name}: launched with {sorted(arguments)}, wants {sorted(self.types)}")
        if all(grid):
            self.kernel[grid](**arguments, **self.constants, num_warps=self.warps, num_stages=self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A row of the table of kernels."""

    name: str
    plans: Callable[[], tuple[Plan, ...]]
    """Every plan that the engine, or a transfer, or a trainer can select."""
    invariant: str = ""
    """Why no invariance is claimed where it is not; empty where it is."""
