"""Powers, logarithms and random exponentials in integers: the same bits on every accelerator, in every order.

Each comes twice, for arrays and for kernels. Numbers are multiples of 2^-24 unless it is said otherwise; polynomials
are least squares fits at Chebyshev nodes, in multiples of 2^-28, and what they are multiplied by is 0 where the result
must be exact. Errors are below 2^-18.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray

Integers = NDArray[np.int64]

LOG2 = (118833605, -74689515, 52870125, -35501057, 17441570, -4155581)
"""(log2(1 + m) - m) / (m (1 - m)) for m from 0 to 1."""
EXP2 = (51847546, -12637467, 2259131, -313510, 29395)
"""(1 - f/2 - 2^-f) / (f (1 - f)) for f from 0 to 1."""
RACE = (141939762, 193612703, 81367499, 40717067, 73584814, -74215203, 126582281)
"""log2(-log2(1 - v) / v) for v from 0 to 1/2."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def log2_of(x: NDArray[np.float32]) -> Integers:
    """Base 2 logarithms of normal numbers above 0."""
    bits = x.view(np.int32).astype(np.int64)
    fraction = bits & 0x7FFFFF
    bow = _polynomial(LOG2, fraction, 23) * (fraction * ((1 << 23) - fraction) >> 23) >> 23
    return ((bits >> 23) - 127 << 24) + ((fraction << 5) + bow + 8 >> 4)


def weight_of(distance: Integers) -> Integers:
    """2^(32 - distance), for distances in multiples of 2^-18."""
    fraction = distance & 0x3FFFF
    bow = _polynomial(EXP2, fraction, 18) * (fraction * ((1 << 18) - fraction) >> 6) >> 30
    return ((1 << 28) - (fraction << 9) - bow << 4) >> (distance >> 18)


def words_of(seed: int, position: int, count: int) -> NDArray[np.uint64]:
    """Random words of the tokens 0 to `count` at a position: the stream of the word that (seed, position) has.

    SplitMix64 (Steele, Lea and Flood, 2014), read at counters.
    """
    with np.errstate(over="ignore"):
        state = _mixed(np.array([seed % 2**64], dtype=np.uint64))
        state = _mixed(state + np.uint64(position % 2**64 + 1) * _GOLDEN)
        return _mixed(state + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)


def exponentials_of(words: NDArray[np.uint64]) -> Integers:
    """log2 of -log2(1 - v), where v is a word as a fraction of 2^64: logarithms of exponential variates."""
    v = (words >> np.uint64(11)).astype(np.int64) | 1
    low = v < 1 << 52
    logarithm = log2_of(np.where(low, v, (1 << 53) - v).astype(np.float32)) - (53 << 24)
    above = log2_of(np.where(low, 1, -logarithm).astype(np.float32)) - (24 << 24)
    return np.where(low, logarithm + (_polynomial(RACE, v >> 23, 30) + 8 >> 4), above)


def _polynomial(coefficients: tuple[int, ...], x: Integers, places: int) -> Integers:
    """With x in multiples of 2^-places."""
    total: Any = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = (total * x >> places) + coefficient
    return np.asarray(total)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@triton.jit
def log2(x, LOG2: tl.constexpr) -> tl.tensor:
    """As `log2_of`."""
    bits = x.to(tl.int32, bitcast=True)
    fraction = bits & 0x7FFFFF
    bow = (_product(fraction, (1 << 23) - fraction, 23).to(tl.int64) * _horner(fraction, LOG2, 23) >> 23).to(tl.int32)
    return (((bits >> 23) - 127) << 24) + (((fraction << 5) + bow + 8) >> 4)


@triton.jit
def weight(distance, EXP2: tl.constexpr) -> tl.tensor:
    """As `weight_of`, in 64 bits."""
    fraction = distance & 0x3FFFF
    bow = _product(_product(fraction, (1 << 18) - fraction, 6), _horner(fraction, EXP2, 18), 30)
    return (((1 << 28) - (fraction << 9) - bow).to(tl.int64) << 4) >> (distance >> 18).to(tl.int64)


@triton.jit
def word(seed, position, token) -> tl.tensor:
    """As `words_of`, of some tokens."""
    golden: tl.constexpr = 0x9E3779B97F4A7C15
    state = _mix(_mix(seed.to(tl.uint64)) + (position.to(tl.uint64) + 1) * golden)
    return _mix(state + (token.to(tl.uint64) + 1) * golden)


@triton.jit
def exponential(words, LOG2: tl.constexpr, RACE: tl.constexpr) -> tl.tensor:
    """As `exponentials_of`."""
    half: tl.constexpr = 1 << 52
    v = (words >> 11).to(tl.int64) | 1
    low = v < half
    logarithm = log2(tl.where(low, v, 2 * half - v).to(tl.float32), LOG2) - (53 << 24)
    above = log2(tl.where(low, 1, -logarithm).to(tl.float32), LOG2) - (24 << 24)
    below = logarithm + ((_horner((v >> 23).to(tl.int32), RACE, 30) + 8) >> 4)
    return tl.where(low, below, above)


@triton.jit
def _horner(x, COEFFICIENTS: tl.constexpr, PLACES: tl.constexpr):
    total = tl.zeros_like(x) + COEFFICIENTS[len(COEFFICIENTS) - 1]
    for place in tl.static_range(len(COEFFICIENTS) - 2, -1, -1):
        total = _product(total, x, PLACES) + COEFFICIENTS[place]
    return total


@triton.jit
def _product(a, b, PLACES: tl.constexpr):
    return (a.to(tl.int64) * b.to(tl.int64) >> PLACES).to(tl.int32)


@triton.jit
def _mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)
