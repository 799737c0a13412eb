"""The all-reduce of tensor parallelism: two in each layer, on the way of every token."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_START_SECONDS = 10e-6
_ATTAINED = 0.7
"""Share of the link's peak, where nothing is measured."""


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Seconds by number of GPUs and bytes: interpolated between measurements, else a ring over the links."""

    curves: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
    """By GPUs: logarithms of bytes and of seconds."""
    link_bandwidth: float

    @classmethod
    def parse(cls, text: str, *, link_bandwidth: float) -> AllReduce:
        """Read CSV with columns gpus, bytes, and one in microseconds for each implementation: the best counts."""
        points: defaultdict[int, dict[int, float]] = defaultdict(dict)
        for row in csv.DictReader(io.StringIO(text)):
            gpus, size = int(row.pop("gpus")), int(row.pop("bytes"))
            points[gpus][size] = min(float(value) for value in row.values() if value) * 1e-6
        curves = {gpus: _curve(measured) for gpus, measured in points.items()}
        return cls(curves, link_bandwidth)

    def seconds(self, *, gpus: int, size: float) -> float:
        """Seconds to sum `size` bytes over `gpus` GPUs."""
        if gpus <= 1 or size <= 0:
            return 0.0
        if (curve := self.curves.get(gpus)) is None:
            return _START_SECONDS + 2.0 * (gpus - 1) / gpus * size / (_ATTAINED * self.link_bandwidth)
        largest = float(np.exp(curve[0][-1]))
        known = float(np.exp(np.interp(np.log(min(size, largest)), *curve)))
        return known * max(1.0, size / largest)


def _curve(measured: Mapping[int, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sizes and seconds as logarithms; a larger message never takes less time than a smaller one."""
    sizes = sorted(measured)
    seconds = np.maximum.accumulate([measured[size] for size in sizes])
    return np.log(np.array(sizes, dtype=float)), np.log(seconds)
