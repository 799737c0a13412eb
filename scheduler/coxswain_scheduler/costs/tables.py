"""Measured kernels: how long matrix products and attention take on a device, between and beyond the points measured.

What is interpolated is the share of the roofline attained, along the logarithms of the sizes: it varies slowly, so the
rest of a prediction is physics, and a table serves other devices of the same architecture. A kernel timed over and
over finds its operands in the cache, and then beats the memory's bandwidth; in a model each layer has its own. Times
below the roofline are therefore taken to be at it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coxswain_scheduler.costs.hardware import Accelerator
from coxswain_scheduler.costs.model_shape import Matrix
from coxswain_scheduler.costs.roofline import matmul_floor

Array = NDArray[np.float64]
HEAD_DIM = 128
"""Of the attention that was measured, in bf16."""
_ELEMENT = 2.0
_LONG_SECONDS = 100e-6
"""Decode attention that takes so long is past caches and launching."""
_MANY_PROMPTS = 4
"""From this batch on, prompts fill the device as well as they ever will."""


@dataclass(frozen=True, slots=True)
class MatmulTable:
    """Seconds of bf16 products of `rows` × inputs with inputs × outputs; NaN where nothing was measured."""

    outputs: Array
    inputs: Array
    rows: Array
    seconds: Array
    """By outputs, inputs and rows."""

    @classmethod
    def parse(cls, text: str) -> MatmulTable:
        """Read CSV with columns n, k, and one for each number of rows, in microseconds."""
        rows, lines = _read(text, keys=2)
        outputs, inputs = (sorted({key[place] for key in lines}) for place in (0, 1))
        empty = np.full(len(rows), np.nan)
        seconds = np.array([[lines.get((n, k), empty) for k in inputs] for n in outputs])
        return cls(np.array(outputs, float), np.array(inputs, float), rows, seconds)

    def thinned(self, *, outputs: Iterable[int], inputs: Iterable[int]) -> MatmulTable:
        """Only those places of the two axes: for tests of the interpolation against what it has not seen."""
        kept, across = list(outputs), list(inputs)
        seconds = self.seconds[np.ix_(kept, across, range(len(self.rows)))]
        return MatmulTable(self.outputs[kept], self.inputs[across], self.rows, seconds)

    def efficiency(self, device: Accelerator) -> MatmulEfficiency:
        """Shares of the roofline attained, `device` being the one measured."""
        shape = self.seconds.shape
        floors = np.array(
            [
                matmul_floor(device, m, Matrix(n, k, 1), _ELEMENT)
                for n in self.outputs
                for k in self.inputs
                for m in self.rows
            ]
        ).reshape(shape)
        shares = np.minimum(1.0, floors / self.seconds)
        axes = tuple(np.log(axis) for axis in (self.outputs, self.inputs, self.rows))
        return MatmulEfficiency(axes, np.log(shares))


@dataclass(frozen=True, slots=True)
class MatmulEfficiency:
    """Share of the roofline that a matrix product attains."""

    axes: tuple[Array, ...]
    """Logarithms of outputs, inputs, rows."""
    shares: Array
    """Logarithms of the shares."""

    def __call__(self, *, outputs: float, inputs: float, rows: float) -> float:
        """The share, interpolated linearly in all three logarithms; beyond the table that of its edge."""
        values = self.shares
        for axis, size in zip(self.axes, (outputs, inputs, rows), strict=True):
            low, high, weight = _between(axis, float(np.log(size)))
            values = _mixed(values[low], values[high], weight)
        return float(np.exp(values))


@dataclass(frozen=True, slots=True)
class PrefillAttentionTable:
    """Seconds of causal attention by (heads, KV heads, prompts) and length; NaN where nothing was measured."""

    lengths: Array
    seconds: Mapping[tuple[int, ...], Array]

    @classmethod
    def parse(cls, text: str) -> PrefillAttentionTable:
        """Read CSV with columns heads, KV heads, batch, and one for each prompt length, in microseconds."""
        return cls(*_read(text, keys=3))

    def curve(self, *, heads: int, kv_heads: int, device: Accelerator) -> tuple[Array, Array]:
        """Seconds of one layer over query-key pairs, from the prompts that were measured alone.

        Never below the device's peak, and never falling.
        """
        near = self._near(heads, kv_heads)
        pairs = self.lengths * (self.lengths + 1) / 2
        floor = _pair_floor(near[0], device) * pairs
        seconds = np.maximum.accumulate(np.maximum(self.seconds[*near, 1], floor))
        return pairs, seconds * max(1.0, heads / near[0])

    def line(self, *, heads: int, kv_heads: int, device: Accelerator) -> tuple[float, float]:
        """One layer of many prompts as `per token + per pair`, the latter not below the device's peak.

        Least squares of the relative error: short prompts leave the device idle in part, however many there are.
        """
        near = self._near(heads, kv_heads)
        tokens, pairs, seconds = [], [], []
        for (*found, batch), line in self.seconds.items():
            if tuple(found) == near and batch >= _MANY_PROMPTS:
                known = ~np.isnan(line)
                tokens += list(batch * self.lengths[known])
                pairs += list(batch * (self.lengths * (self.lengths + 1) / 2)[known])
                seconds += list(line[known])
        each = _relative_fit(np.array([tokens, pairs]), np.array(seconds))
        scale = max(1.0, heads / near[0])
        return max(each[0], 0.0) * scale, max(each[1], _pair_floor(near[0], device)) * scale

    def _near(self, heads: int, kv_heads: int) -> tuple[int, int]:
        """The measured numbers of heads nearest to these."""
        known = {(key[0], key[1]) for key in self.seconds if key[2] == 1}
        return min(known, key=lambda key: (_far(key[0], heads), _far(key[0] / key[1], heads / kv_heads)))


@dataclass(frozen=True, slots=True)
class DecodeAttentionTable:
    """Seconds of one-token attention by (heads, KV heads, sequences) and KV length; NaN where nothing was measured."""

    lengths: Array
    seconds: Mapping[tuple[int, ...], Array]

    @classmethod
    def parse(cls, text: str) -> DecodeAttentionTable:
        """Read CSV with columns heads, KV heads, batch, and one for each KV length before the step, in microseconds."""
        lengths, seconds = _read(text, keys=3)
        return cls(lengths + 1, seconds)

    def line(self, *, heads: int, kv_heads: int, device: Accelerator) -> tuple[Array, Array, float]:
        """One layer as `fixed(sequences) + each · KV tokens`: measured sequence counts, their `fixed`, and `each`.

        Least squares of the relative error. KV heads beyond those measured count as more sequences.
        """
        known = sorted({key[1] for key in self.seconds})
        kv = max((count for count in known if kv_heads % count == 0), default=known[0])
        copies = kv_heads / kv
        near = min((key[0] for key in self.seconds if key[1] == kv), key=lambda count: _far(count, heads / copies))
        measured = (key for key, line in self.seconds.items() if not np.isnan(line).all())
        batches = np.array(sorted(key[2] for key in measured if key[:2] == (near, kv)), float)
        floor = 2.0 * _ELEMENT * HEAD_DIM * kv / device.memory_bandwidth
        fixed, each = self._fit(batches, (near, kv), floor)
        return batches / copies, fixed, each * copies

    def _fit(self, batches: Array, heads: tuple[int, int], floor: float) -> tuple[Array, float]:
        """`each` from steps long enough to read from memory only; then what is left of the rest, by batch size."""
        tokens = batches[:, None] * self.lengths[None, :]
        seconds = np.array([self.seconds[*heads, int(batch)] for batch in batches])
        seconds = np.where(np.isnan(seconds), np.nan, np.maximum(seconds, floor * tokens))
        reading = np.where(np.isnan(seconds), 0.0, floor * tokens)
        long = reading >= min(_LONG_SECONDS, 0.5 * float(reading.max()))
        each = max(float(np.median(seconds[long] / tokens[long])), floor)
        fixed = np.nansum((seconds - each * tokens) / seconds**2, axis=1) / np.nansum(seconds**-2, axis=1)
        return np.maximum.accumulate(np.maximum(fixed, 1e-6)), each


def _pair_floor(heads: int, device: Accelerator) -> float:
    return 4.0 * HEAD_DIM * heads / device.bf16_flops


def _relative_fit(columns: Array, seconds: Array) -> tuple[float, float]:
    found = np.linalg.lstsq((columns / seconds).T, np.ones(len(seconds)), rcond=None)[0]
    return float(found[0]), float(found[1])


def _read(text: str, *, keys: int) -> tuple[Array, dict[tuple[int, ...], Array]]:
    """A CSV whose first `keys` columns name a line and whose header names the other columns' places on an axis."""
    reader = csv.reader(io.StringIO(text))
    axis = np.array([float(name) for name in next(reader)[keys:]])
    lines = {}
    for row in reader:
        values = np.array([float(value) * 1e-6 if value else np.nan for value in row[keys:]])
        lines[tuple(int(value) for value in row[:keys])] = values
    return axis, lines


def _between(axis: Array, place: float) -> tuple[int, int, float]:
    """The neighbours of `place` on a rising axis, and the upper one's weight."""
    high = min(max(int(np.searchsorted(axis, place)), 1), len(axis) - 1)
    weight = (place - axis[high - 1]) / (axis[high] - axis[high - 1])
    return high - 1, high, float(min(max(weight, 0.0), 1.0))


def _mixed(low: Array, high: Array, weight: float) -> Array:
    """Between two neighbours; where one was not measured, the other."""
    mixed = (1.0 - weight) * low + weight * high
    return np.where(np.isnan(low), high, np.where(np.isnan(high), low, mixed))


def _far(one: float, other: float) -> float:
    return float(abs(np.log(one / other)))
