"""Durations, shares and bandwidths are read as people write them, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from coxswain_simulate.quantities import bytes_per_second, positive, seconds, share, whole


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (seconds, "2s", 2.0),
        (seconds, "50ms", 0.05),
        (seconds, "1.5 s", 1.5),
        (seconds, "3m", 180.0),
        (seconds, "0s", 0.0),
        (bytes_per_second, "25GB/s", 25e9),
        (bytes_per_second, "400Gbit/s", 50e9),
        (bytes_per_second, "1GiB/s", 2.0**30),
        (bytes_per_second, "free", math.inf),
        (share, "10%", 0.1),
        (share, "0.1", 0.1),
        (share, "100%", 1.0),
        (positive, "7", 7.0),
        (positive, "5e-1", 0.5),
        (whole, "8", 8),
    ],
)
def test_read(read: Callable[[str], float], text: str, value: float) -> None:
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (seconds, "2"), (seconds, "s"), (seconds, "-2s"), (seconds, "2 days"), (seconds, "nans"), (seconds, "1e999s"),
        (bytes_per_second, "25"), (bytes_per_second, "0GB/s"), (bytes_per_second, "25GB"), (bytes_per_second, "inf"),
        (share, "101%"), (share, "1.1"), (share, "-1%"), (share, ""),
        (positive, "0"), (positive, "inf"), (positive, "-3"), (positive, "1e999"),
        (whole, "0"), (whole, "1.5"), (whole, "-1"), (whole, "٣"),
    ],
)  # fmt: skip
def test_refused(read: Callable[[str], float], text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|is no |more than|too large"):
        read(text)
