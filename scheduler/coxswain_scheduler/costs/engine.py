"""The cost model of an engine: one model on one kind of accelerator, under one serving software.

A step is the layers' matrix products for all its tokens, with the traffic of activations and two all-reduces a layer;
the attention of its prompts and of its decoding sequences; the output projection of those rows that are sampled; and
what the software adds. Everything is worked out beforehand by number of tokens and of sequences; a question is a few
look-ups. Seconds are a line over the KV tokens, which gives runs of decode steps in closed form.

Each part is at or above its own roofline, and so is the whole.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

import numpy as np

from coxswain_scheduler.costs.decode_line import line_seconds, line_steps
from coxswain_scheduler.costs.hardware import Accelerator
from coxswain_scheduler.costs.kernels import Kernels, PrefillAttention, kernels_of
from coxswain_scheduler.costs.model_shape import Matrix, ModelShape
from coxswain_scheduler.costs.packaged import all_reduce
from coxswain_scheduler.costs.software import Software
from coxswain_scheduler.costs.tables import Array
from coxswain_scheduler.costs.timing import Work

_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_LARGE = (6144, 8192, 12288, 16384)
_TRAFFIC_ATTAINED = 0.8


class EngineTiming:
    """A `Timing` for `shape` on `tensor_parallel` of `accelerator`; times of larger steps are extrapolated."""

    def __init__(
        self, shape: ModelShape, accelerator: Accelerator, *, tensor_parallel: int = 1, software: Software
    ) -> None:
        parts = parts_of(shape, accelerator, tensor_parallel)
        step = software.step_seconds + shape.layers * software.layer_seconds
        self._by_tokens = (step + software.matmul * parts.layers + parts.around).tolist()
        rows = np.arange(len(parts.head))
        self._by_rows = (software.matmul * parts.head + software.row_seconds * rows).tolist()
        self._by_decodes = (software.attention * parts.decode_fixed).tolist()
        self._each = software.attention * parts.decode_each
        prefill = parts.prefill.times(software.attention)
        self._pairs, self._by_pairs = prefill.pairs.tolist(), prefill.seconds.tolist()
        self._per_token, self._per_pair = prefill.per_token, prefill.per_pair

    def seconds(self, work: Work) -> float:
        """Seconds of one step."""
        prefill, pairs, decodes, context = work.amounts
        if not (prefill or decodes):
            return 0.0
        total = _at(self._by_tokens, prefill + decodes) + _at(self._by_rows, decodes + (1 if prefill else 0))
        if prefill:
            total += self._prefill_attention(prefill, pairs)
        if decodes:
            total += _at(self._by_decodes, decodes) + self._each * context
        return total

    def decode_seconds(self, decodes: int, context: int, steps: int) -> float:
        """See `Timing`."""
        if decodes <= 0:
            return 0.0
        return line_seconds(self._fixed(decodes), self._each, decodes=decodes, context=context, steps=steps)

    def decode_steps(self, decodes: int, context: int, seconds: float) -> int:
        """See `Timing`. Raises ValueError where no sequence decodes."""
        return line_steps(self._fixed(decodes), self._each, decodes=decodes, context=context, seconds=seconds)

    def _fixed(self, decodes: int) -> float:
        return _at(self._by_tokens, decodes) + _at(self._by_rows, decodes) + _at(self._by_decodes, decodes)

    def _prefill_attention(self, tokens: int, pairs: int) -> float:
        known, seconds = self._pairs, self._by_pairs
        high = min(max(bisect_right(known, pairs), 1), len(known) - 1)
        slope = (seconds[high] - seconds[high - 1]) / (known[high] - known[high - 1])
        single = seconds[high - 1] + slope * (pairs - known[high - 1])
        return float(max(seconds[0], single, self._per_token * tokens + self._per_pair * pairs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A step's parts on the bare hardware, all layers, in seconds. Arrays are by the number from 0 on."""

    layers: Array
    """Matrix products by tokens."""
    around: Array
    """Activations and all-reduces by tokens."""
    head: Array
    """Output projection by rows."""
    decode_fixed: Array
    """Attention by decoding sequences, without their KV tokens."""
    decode_each: float
    """Attention per KV token."""
    prefill: PrefillAttention
    """Attention of prompts."""


@cache
def parts_of(shape: ModelShape, accelerator: Accelerator, tensor_parallel: int) -> Parts:
    """The parts of one engine's steps."""
    kernels = kernels_of(accelerator)
    tokens, rows = [*_SIZES, *_LARGE], list(_SIZES)
    matrices = shape.matrices(tensor_parallel)
    layers = [sum(_all_layers(kernels, m, matrix, shape) for matrix in matrices) for m in tokens]
    head = Matrix(-(-shape.vocabulary // tensor_parallel), shape.hidden, 1)
    sequences, fixed, each = kernels.decode_attention(shape, tensor_parallel)
    counts = np.arange(rows[-1] + 1, dtype=float)
    return Parts(
        layers=_filled(tokens, layers),
        around=_filled(tokens, [_around(shape, accelerator, tensor_parallel, m) for m in tokens]),
        head=_filled(rows, [kernels.matmul(m, head, 2.0) for m in rows]),
        decode_fixed=shape.layers * np.interp(counts, sequences, fixed) * np.maximum(1.0, counts / sequences[-1]),
        decode_each=shape.layers * each,
        prefill=kernels.prefill_attention(shape, tensor_parallel).times(shape.layers),
    )


def _all_layers(kernels: Kernels, rows: int, matrix: Matrix, shape: ModelShape) -> float:
    return matrix.layers * kernels.matmul(rows, matrix, shape.weight_bytes)


def _around(shape: ModelShape, accelerator: Accelerator, parts: int, tokens: int) -> float:
    """Norms and residuals, rotary embedding and KV writes, the gate; and two all-reduces: of all layers."""
    heads = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    active = shape.active_experts * shape.expert_intermediate or shape.intermediate
    traffic = 2.0 * tokens * (8 * shape.hidden + 2 * heads / parts + 3 * active / parts)
    reduced = 2.0 * all_reduce(accelerator).seconds(gpus=parts, size=2.0 * tokens * shape.hidden)
    return shape.layers * (traffic / (_TRAFFIC_ATTAINED * accelerator.memory_bandwidth) + reduced)


def _filled(places: list[int], seconds: list[float]) -> Array:
    """Every whole number from nothing to the last place, interpolated; more never takes less."""
    rising = np.maximum.accumulate(seconds)
    filled: Array = np.interp(np.arange(places[-1] + 1), places, rising)
    filled[0] = 0.0
    return filled


def _at(values: list[float], place: int) -> float:
    """Beyond the end, on in proportion."""
    last = len(values) - 1
    return values[place] if place <= last else values[last] * (place / last)
