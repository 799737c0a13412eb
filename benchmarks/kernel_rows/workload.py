"""What is measured: an operation on one shape, by our plans and by others, on the same tensors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[], object]
"""One run, on tensors of its own."""
Contenders = Mapping[str, Callable[[], Call]]
"""By name, what makes a call ready. It raises, ImportError for one, where there is none to be had."""

PLANS = ("fast", "invariant", "only")
"""Names of contenders that are ours; `only` is both. All others are peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The shapes that a model has: by default Llama 3's of 8B, in blocks of 16 tokens."""

    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    hidden: int = 4096
    inner: int = 14336
    vocab: int = 128_256
    block_size: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One operation on one shape. `make` may be called several times, for tensors that no cache holds yet."""

    operation: str
    shape: str
    dtype: str
    bytes_moved: int
    """What has to be read and written at least once."""
    flops: int = 0
    """Of matrix products."""
    precision: torch.dtype = torch.bfloat16
    """In which these are computed."""
    make: Callable[[torch.device], Contenders]


def ready(call: Call) -> Callable[[], Call]:
    """A contender that needs no preparation."""
    return lambda: call


def theirs(module: str) -> Any:
    """Somebody else's module. Raises ImportError where it is not installed."""
    return importlib.import_module(module)


def short(dtype: torch.dtype) -> str:
    """Its name."""
    return str(dtype).removeprefix("torch.")
