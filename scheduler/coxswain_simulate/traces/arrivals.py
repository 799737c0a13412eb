"""When requests arrive: drawn from a renewal process, or moved a little from when they were recorded."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from coxswain_simulate.quantities import positive

JITTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """Arrivals whose gaps are independent and gamma distributed; a coefficient of variation of 1 is Poisson."""

    rate: float
    """Requests per second."""
    variation: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Renewal:
        """Of `poisson:RATE` or `gamma:RATE:CV`. Raises ValueError for anything else."""
        match text.split(":"):
            case ["poisson", rate]:
                return cls(positive(rate))
            case ["gamma", rate, variation]:
                return cls(positive(rate), positive(variation))
        raise ValueError(f"{text!r} is not poisson:RATE or gamma:RATE:CV, such as poisson:7.5 or gamma:2:4")

    def draw(self, count: int, *, seed: int) -> list[float]:
        """Seconds of `count` arrivals, ascending."""
        source = random.Random(f"arrivals {seed}")
        shape = self.variation**-2
        scale = 1.0 / (self.rate * shape)
        now, times = 0.0, []
        for _ in range(count):
            now += source.gammavariate(shape, scale)
            times.append(now)
        return times


def jittered(times: Sequence[float], *, seed: int) -> list[float]:
    """Each time moved by up to a second either way, in whole ms, and not before zero. Not sorted."""
    uniform = random.Random(f"jitter {seed}").random
    width = 2 * JITTER_SECONDS
    return [max(0, round((time + width * uniform() - JITTER_SECONDS) * 1e3)) / 1e3 for time in times]


def chosen(count: int, *, share: float, seed: int) -> frozenset[int]:
    """A share of 0 … count-1, rounded to the nearest whole number of them."""
    return frozenset(random.Random(f"priority {seed}").sample(range(count), math.floor(share * count + 0.5)))
