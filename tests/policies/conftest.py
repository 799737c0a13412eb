from __future__ import annotations

from collections.abc import Callable

import pytest

from coxswain_scheduler.costs.polynomial import PolynomialTiming, Quadratic
from tests.policies.fleet import Desk, Fleet

PREFILL = Quadratic(4.209989e-10, 1.518344e-5, 0.01650142)
DECODE = Quadratic(-0.02574, 0.05401, 0.00574)


@pytest.fixture
def timing() -> PolynomialTiming:
    """An engine of 1,048,576 KV tokens that prefills about 60 tokens a millisecond."""
    return PolynomialTiming(PREFILL, DECODE, 1_048_576)


@pytest.fixture
def desk(timing: PolynomialTiming) -> Callable[..., Desk]:
    """`desk("round-robin", 4)`: that policy in front of four engines."""

    def make(spec: str, engines: int = 4, *, seed: int = 0) -> Desk:
        return Desk(spec, Fleet(timing, engines), seed=seed)

    return make
