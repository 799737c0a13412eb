"""Durations, shares and bandwidths as people write them: `2s`, `50ms`, `10%`, `25GB/s`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {
    "B/s": 1.0, "kB/s": 1e3, "KB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12,
    "KiB/s": 2.0**10, "MiB/s": 2.0**20, "GiB/s": 2.0**30, "TiB/s": 2.0**40,
    "Mbit/s": 1e6 / 8, "Gbit/s": 1e9 / 8,
}  # fmt: skip
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d+))?"


def seconds(text: str) -> float:
    """Seconds of a duration. Raises ValueError for anything that is not one."""
    return _scaled(text, _SECONDS, "a duration: write a number and one of us, ms, s, m, h, such as 50ms or 2s")


def bytes_per_second(text: str) -> float:
    """Bytes per second of a bandwidth above zero; `free` is infinite. Raises ValueError for anything else."""
    if text == "free":
        return math.inf
    value = _scaled(text, _BYTES, "a bandwidth: write a number and a unit, such as 25GB/s or 400Gbit/s, or free")
    if value == 0:
        raise ValueError(f"{text!r} is no bandwidth: a link must carry something")
    return value


def share(text: str) -> float:
    """A share from 0 to 1, written `10%` or `0.1`. Raises ValueError for anything else."""
    value = _scaled(text, {"%": 0.01, "": 1.0}, "a share: write 10% or 0.1")
    if value > 1:
        raise ValueError(f"{text!r} is more than 100%")
    return value


def positive(text: str) -> float:
    """A number above zero. Raises ValueError for anything else."""
    value = _scaled(text, {"": 1.0}, "a number above zero")
    if value == 0:
        raise ValueError(f"{text!r} is not a number above zero")
    return value


def whole(text: str) -> int:
    """A whole number above zero. Raises ValueError for anything else."""
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ValueError(f"{text!r} is not a whole number above zero")
    return int(text)


def _scaled(text: str, units: Mapping[str, float], wanted: str) -> float:
    match = re.fullmatch(_NUMBER + r"\s*([A-Za-z/%]*)", text.strip())
    if match is None or match[3] not in units:
        raise ValueError(f"{text!r} is not {wanted}")
    value = float(f"{match[1]}e{match[2] or 0}") * units[match[3]]
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is too large")
    return value
