"""What is asked of tensors before a kernel sees their addresses. Each raises ValueError, naming the argument."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, *sizes: int | None) -> None:
    """`tensor` has as many dimensions as `sizes`, and those sizes; None is any."""
    fits = tensor.dim() == len(sizes) and all(
        size in (None, have) for size, have in zip(sizes, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ValueError(f"{name} has shape {list(tensor.shape)}, wanted [{wanted}]")


def check_dtype(name: str, tensor: Tensor, *dtypes: torch.dtype) -> None:
    """`tensor` is of one of `dtypes`."""
    if tensor.dtype not in dtypes:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}, wanted {wanted}")


def check_same_device(**tensors: Tensor) -> None:
    """All are on the device of the first."""
    (first, one), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != one.device:
            raise ValueError(f"{name} is on {tensor.device}, {first} on {one.device}")


def check_last_contiguous(**tensors: Tensor) -> None:
    """Elements of the last dimension follow one another: kernels read rows as such. Other strides are free."""
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            raise ValueError(f"{name} has stride {tensor.stride(-1)} in its last dimension, wanted 1")


def check_entries(name: str, table: Tensor, *, below: int, counts: Tensor | None = None) -> None:
    """Entries of a table of indices are in [0, below). Reads the device, so no `launch` asks it.

    `counts`: how many leading entries of each row are used; what is behind them may be anything.
    """
    wrong = (table < 0) | (table >= below)
    if counts is not None:
        wrong &= torch.arange(table.shape[-1], device=table.device) < counts.unsqueeze(-1)
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        entry = int(table[tuple(place)])
        raise ValueError(f"{name}{place} is {entry}, wanted an index from 0 to {below - 1}")


def check_one_of(name: str, value: int, allowed: Iterable[int]) -> None:
    """`value` is one that there are plans for."""
    if value not in (choices := tuple(allowed)):
        raise ValueError(f"{name} is {value}, wanted one of {', '.join(map(str, choices))}")
