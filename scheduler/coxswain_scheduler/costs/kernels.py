"""How long one layer's kernels take on an accelerator: from measurements where there are any, else by constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from coxswain_scheduler.costs import packaged
from coxswain_scheduler.costs.hardware import ACCELERATORS, Accelerator
from coxswain_scheduler.costs.model_shape import Matrix, ModelShape
from coxswain_scheduler.costs.roofline import matmul_floor
from coxswain_scheduler.costs.tables import HEAD_DIM, Array

_LAUNCH_SECONDS = 2.5e-6
_MATMUL_ATTAINED = 0.8
_DECODE_ATTAINED = 0.8
_PREFILL_ATTAINED = 0.45
"""Shares of the peaks that the measured GPUs attain, for those that are not measured."""
_ATTENTION_SECONDS = 10e-6


class PrefillAttention(NamedTuple):
    """Prompts take as long as one prompt of all their query-key pairs, or as their tokens and pairs: the longer."""

    pairs: Array
    """Query-key pairs, rising."""
    seconds: Array
    """Of one prompt with so many."""
    per_token: float
    per_pair: float

    def times(self, factor: float) -> PrefillAttention:
        """The same, slower: of several layers, for instance."""
        return PrefillAttention(self.pairs, factor * self.seconds, factor * self.per_token, factor * self.per_pair)


class Kernels(Protocol):
    """One layer on one of `parts` GPUs, in seconds. Nothing is below the accelerator's roofline."""

    def matmul(self, rows: float, matrix: Matrix, weight_bytes: float) -> float:
        """The product of `rows` tokens with one layer of `matrix`."""

    def prefill_attention(self, shape: ModelShape, parts: int) -> PrefillAttention:
        """Attention of prompts."""

    def decode_attention(self, shape: ModelShape, parts: int) -> tuple[Array, Array, float]:
        """Rising numbers of sequences, what each takes whatever its length, and what one KV token adds."""


@dataclass(frozen=True, slots=True)
class AssumedKernels:
    """Constant shares of the roofline."""

    accelerator: Accelerator

    def matmul(self, rows: float, matrix: Matrix, weight_bytes: float) -> float:
        """See `Kernels`."""
        floor = matmul_floor(self.accelerator, rows, matrix, weight_bytes)
        return _LAUNCH_SECONDS + floor / _MATMUL_ATTAINED

    def prefill_attention(self, shape: ModelShape, parts: int) -> PrefillAttention:
        """See `Kernels`."""
        pairs = np.array([0.0, 1e6])
        each = shape.flops_per_pair / shape.layers / parts / self.accelerator.bf16_flops / _PREFILL_ATTAINED
        return PrefillAttention(pairs, _ATTENTION_SECONDS + pairs * each, 0.0, each)

    def decode_attention(self, shape: ModelShape, parts: int) -> tuple[Array, Array, float]:
        """See `Kernels`."""
        each = decode_floor(shape, parts, self.accelerator) / _DECODE_ATTAINED
        return np.array([1.0, 4096.0]), np.full(2, _ATTENTION_SECONDS), each


@dataclass(frozen=True, slots=True)
class MeasuredKernels:
    """Shares of the roofline as measured on a device of the same architecture, applied to the accelerator's own."""

    accelerator: Accelerator
    measured: Accelerator

    def matmul(self, rows: float, matrix: Matrix, weight_bytes: float) -> float:
        """See `Kernels`. Experts count as products of the rows that each gets."""
        each = max(1.0, rows * matrix.active / matrix.touched(rows))
        share = packaged.matmul_efficiency(self.measured)(outputs=matrix.outputs, inputs=matrix.inputs, rows=each)
        return max(_LAUNCH_SECONDS, matmul_floor(self.accelerator, rows, matrix, weight_bytes) / share)

    def prefill_attention(self, shape: ModelShape, parts: int) -> PrefillAttention:
        """See `Kernels`."""
        if not _measured(shape):
            return AssumedKernels(self.accelerator).prefill_attention(shape, parts)
        table = packaged.prefill_attention_table(self.measured.name)
        heads, kv_heads = -(-shape.heads // parts), -(-shape.kv_heads // parts)
        pairs, seconds = table.curve(heads=heads, kv_heads=kv_heads, device=self.measured)
        per_token, per_pair = table.line(heads=heads, kv_heads=kv_heads, device=self.measured)
        slower = max(1.0, self.measured.bf16_flops / self.accelerator.bf16_flops)
        return PrefillAttention(pairs, seconds * slower, per_token * slower, per_pair * slower)

    def decode_attention(self, shape: ModelShape, parts: int) -> tuple[Array, Array, float]:
        """See `Kernels`."""
        if not _measured(shape):
            return AssumedKernels(self.accelerator).decode_attention(shape, parts)
        table = packaged.decode_attention_table(self.measured.name)
        heads, kv_heads = -(-shape.heads // parts), -(-shape.kv_heads // parts)
        sequences, fixed, each = table.line(heads=heads, kv_heads=kv_heads, device=self.measured)
        each *= self.measured.memory_bandwidth / self.accelerator.memory_bandwidth * shape.kv_bytes / 2.0
        return sequences, fixed, max(each, decode_floor(shape, parts, self.accelerator))


def kernels_of(accelerator: Accelerator) -> Kernels:
    """The best that is known about `accelerator`."""
    if accelerator.kernels is None:
        return AssumedKernels(accelerator)
    return MeasuredKernels(accelerator, ACCELERATORS[accelerator.kernels])


def decode_floor(shape: ModelShape, parts: int, accelerator: Accelerator) -> float:
    """Seconds that one KV token costs one layer of a decode step at least: its reading, or its arithmetic."""
    reading = shape.kv_bytes_per_gpu(parts) / accelerator.memory_bandwidth
    return max(reading, shape.flops_per_pair / parts / accelerator.bf16_flops) / shape.layers


def _measured(shape: ModelShape) -> bool:
    return shape.head_dim == HEAD_DIM and not shape.kv_latent
