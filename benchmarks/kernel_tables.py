"""How well the cost models' reading of the kernel tables predicts measurements that it was not given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from coxswain_scheduler.costs import packaged
from coxswain_scheduler.costs.collectives import AllReduce
from coxswain_scheduler.costs.hardware import ACCELERATORS, Accelerator
from coxswain_scheduler.costs.model_shape import Matrix
from coxswain_scheduler.costs.roofline import matmul_floor
from coxswain_scheduler.costs.tables import HEAD_DIM, Array, DecodeAttentionTable, PrefillAttentionTable

_LAUNCHED_SECONDS = 20e-6
"""Kernels longer than this are more than their launch."""
_ELEMENT = 2.0


class Point(NamedTuple):
    """One held-out measurement, in seconds."""

    predicted: float
    measured: float
    floor: float

    @property
    def cached(self) -> bool:
        """Faster than memory or arithmetic allow: repeated, it found its operands in the cache."""
        return self.measured < self.floor

    @property
    def long(self) -> bool:
        """Worth predicting: the launch is the lesser part."""
        return self.measured >= _LAUNCHED_SECONDS


def matmuls(name: str) -> Iterator[Point]:
    """Half of the sizes of both axes of the weights are held out; predicted are those with either of them."""
    device, table = ACCELERATORS[name], packaged.matmul_table(name)
    count = len(table.outputs)
    kept = [place for place in range(count) if place % 2 == 0 or place == count - 1]
    efficiency = table.thinned(outputs=kept, inputs=kept).efficiency(device)
    for row, outputs in enumerate(table.outputs):
        for column, inputs in enumerate(table.inputs):
            if row in kept and column in kept:
                continue
            for rows, measured in zip(table.rows, table.seconds[row, column], strict=True):
                floor = matmul_floor(device, rows, Matrix(int(outputs), int(inputs), 1), _ELEMENT)
                if not np.isnan(measured):
                    share = efficiency(outputs=outputs, inputs=inputs, rows=rows)
                    yield Point(floor / share, float(measured), floor)


def prefill_attentions(name: str) -> Iterator[Point]:
    """Curves and lines are from batches of 1, 4, 16, 64 and 256; predicted are those of 2, 8, 32 and 128."""
    device, table = ACCELERATORS[name], packaged.prefill_attention_table(name)
    batches = sorted({batch for *_, batch in table.seconds})
    half = PrefillAttentionTable(
        table.lengths, {key: line for key, line in table.seconds.items() if key[2] in batches[::2]}
    )
    for (heads, kv_heads, batch), line in table.seconds.items():
        if batch in batches[::2]:
            continue
        pairs, seconds = half.curve(heads=heads, kv_heads=kv_heads, device=device)
        per_token, per_pair = half.line(heads=heads, kv_heads=kv_heads, device=device)
        for length, measured in zip(table.lengths, line, strict=True):
            work = batch * length * (length + 1) / 2
            if not np.isnan(measured) and work <= pairs[-1]:
                floor = 4.0 * HEAD_DIM * heads * work / device.bf16_flops
                single = float(np.interp(work, pairs, seconds))
                yield Point(max(single, per_token * batch * length + per_pair * work), float(measured), floor)


def decode_attentions(name: str) -> Iterator[Point]:
    """Lines are fitted to every second KV length; predicted are the others."""
    device, table = ACCELERATORS[name], packaged.decode_attention_table(name)
    known = np.arange(len(table.lengths)) % 2 == 0
    half = DecodeAttentionTable(
        table.lengths, {key: np.where(known, line, np.nan) for key, line in table.seconds.items()}
    )
    for (heads, kv_heads, batch), line in table.seconds.items():
        sequences, fixed, each = half.line(heads=heads, kv_heads=kv_heads, device=device)
        base = float(np.interp(batch, sequences, fixed))
        for length, measured in zip(table.lengths[~known], line[~known], strict=True):
            if not np.isnan(measured):
                floor = 2.0 * _ELEMENT * HEAD_DIM * kv_heads * batch * length / device.memory_bandwidth
                yield Point(base + each * batch * length, float(measured), floor)


def all_reduces(name: str) -> Iterator[Point]:
    """Every second message size is held out, but for the ends."""
    device = ACCELERATORS[name]
    whole = packaged.all_reduce(device)
    half = AllReduce({gpus: _thinned(curve) for gpus, curve in whole.curves.items()}, whole.link_bandwidth)
    for gpus, (sizes, seconds) in whole.curves.items():
        for size, measured in zip(np.exp(sizes[1:-1:2]), np.exp(seconds[1:-1:2]), strict=True):
            yield Point(half.seconds(gpus=gpus, size=float(size)), float(measured), _ring_floor(device, gpus, size))


def _thinned(curve: tuple[Array, Array]) -> tuple[Array, Array]:
    kept = sorted({*range(0, len(curve[0]), 2), len(curve[0]) - 1})
    return curve[0][kept], curve[1][kept]


def _ring_floor(device: Accelerator, gpus: int, size: float) -> float:
    """In-network reduction, the best there is: each byte leaves and enters once."""
    return size / device.link_bandwidth if gpus > 1 else 0.0


KERNELS = {
    "matrix product": matmuls,
    "prefill attention": prefill_attentions,
    "decode attention": decode_attentions,
    "all-reduce": all_reduces,
}
