"""Durations as Kubernetes users write them: `500ms`, `2s`, `5m`, `1h`."""

from __future__ import annotations

import math
import re
from typing import Final

PATTERN: Final = "(0|[1-9][0-9]{0,5})(ms|s|m|h)"
"""A whole number and one unit; at most 999999h, which Go's 64 bits of nanoseconds still hold."""

_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Seconds of a duration. Raises ValueError, naming what is allowed, for anything that is not one."""
    match = re.fullmatch(PATTERN, text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: write a whole number and one of ms, s, m, h, such as 500ms or 2s"
        )
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def milliseconds(value_seconds: float) -> str:
    """The shortest duration of whole milliseconds that is not below `value_seconds` (finite, not negative)."""
    return f"{math.ceil(round(value_seconds * 1000, 6))}ms"
