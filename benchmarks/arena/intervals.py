"""Means over seeds, with their 95 % intervals (Student's t)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""By degrees of freedom, two-sided."""


class Mean(NamedTuple):
    """`half` is half the width of the interval, None for one value."""

    value: float
    half: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Of at least one value, at most ten."""
        count = len(values)
        half = _T[count - 1] * statistics.stdev(values) / count**0.5 if count > 1 else None
        return cls(statistics.fmean(values), half)

    def shown(self, form: str = ",.0f") -> str:
        """For a table."""
        return f"{self.value:{form}}" + ("" if self.half is None else f" ± {self.half:{form}}")
