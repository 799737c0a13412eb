"""Tensors of a safetensors checkpoint, one file or many, with every way to be wrong told apart."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from coxswain_workers.engine.config import read_json
from coxswain_workers.engine.errors import (
    ModelUnreadableError,
    WeightsCorruptError,
    WeightsMismatchError,
    WeightsMissingError,
)

FLOATS = ("F64", "F32", "F16", "BF16")


def weight_files(path: Path) -> list[Path]:
    """The checkpoint's safetensors files, sorted. Raises WeightsMissingError, ModelUnreadableError, ConfigError."""
    index = path / "model.safetensors.index.json"
    if index.exists():
        files = sorted({path / name for name in read_json(index).get("weight_map", {}).values()})
    else:
        files = sorted(path.glob("*.safetensors"))
    if not files:
        raise WeightsMissingError(f"there is no *.safetensors file in {path}; convert other formats to safetensors")
    for file in files:
        if not file.is_file():
            raise WeightsMissingError(f"{file.name}, which model.safetensors.index.json names, is not in {path}")
        if not os.access(file, os.R_OK, effective_ids=True):
            raise ModelUnreadableError(file)
    return files


def weights_digest(path: Path) -> str:
    """SHA-256 of config.json and of the content of every safetensors file: equal digests mean equal models."""
    digest = hashlib.sha256()
    for file in [path / "config.json", *weight_files(path)]:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class Weights:
    """Open weight files. `take` checks one tensor and copies it; nothing is read before it is asked for."""

    def __init__(self, path: Path, *, dtype: torch.dtype, device: str) -> None:
        self._dtype = dtype
        self._device = device
        self._handles: dict[str, Any] = {}
        for file in weight_files(path):
            self._open(file)

    def take(self, name: str, *shape: int) -> Tensor:
        """A copy of the tensor, in the engine's type, at an address as aligned as torch makes them.

        (A view into the mapped file could be less aligned, and matrix libraries may add in another order then.)
        Raises WeightsMissingError, WeightsMismatchError, WeightsCorruptError.
        """
        if name not in self._handles:
            raise WeightsMissingError(f"the tensor {name} is in none of the safetensors files")
        try:
            lazy = self._handles[name].get_slice(name)
            found, kind = tuple(lazy.get_shape()), lazy.get_dtype()
            if found != shape:
                raise WeightsMismatchError(
                    f"the tensor {name} has shape {list(found)}; config.json makes it {list(shape)}"
                )
            if kind not in FLOATS:
                raise WeightsMismatchError(
                    f"the tensor {name} has type {kind}; the native engine reads {', '.join(FLOATS)}"
                )
            tensor: Tensor = self._handles[name].get_tensor(name)
            return tensor.to(device=self._device, dtype=self._dtype, copy=True)
        except SafetensorError as error:
            raise WeightsCorruptError(f"the tensor {name} cannot be read: {error}") from None

    def _open(self, file: Path) -> None:
        try:
            handle: Any = safe_open(file, framework="pt")
            self._handles.update(dict.fromkeys(handle.keys(), handle))
        except (SafetensorError, OSError) as error:
            raise WeightsCorruptError(f"{file.name} is truncated or damaged: {error}") from None
