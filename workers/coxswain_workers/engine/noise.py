"""Random numbers that are a function of (seed, position): a request continued elsewhere draws the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(seeds: Sequence[int], positions: Sequence[int]) -> NDArray[np.float64]:
    """Numbers in [0, 1), one for each pair. Seeds are taken modulo 2^64.

    SplitMix64 (Steele, Lea and Flood, 2014) read at a counter: the stream of a mixed seed, at `position`.
    """
    state = _mix(np.array([seed & _MASK for seed in seeds], dtype=np.uint64))
    counter = np.array(positions, dtype=np.uint64) + np.uint64(1)
    return (_mix(state + counter * _GOLDEN) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
