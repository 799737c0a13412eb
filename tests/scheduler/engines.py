"""Engines and requests for tests of what looks at both."""

from __future__ import annotations

from coxswain_scheduler.costs.polynomial import PolynomialTiming, Quadratic
from coxswain_scheduler.packing import Packing
from tests.policies.fleet import Ask, Fleet

TIMING = PolynomialTiming(Quadratic(0.0, 1e-4, 0.01), Quadratic(0.0, 0.05, 0.005), 1000 * 64)
"""A step takes 5 ms, and 50 ms more with the memory full of 1,000 blocks of 64 tokens."""


def fleet(count: int = 3) -> Fleet:
    """Engines without requests."""
    engines = Fleet(TIMING, count)
    engines.link_bytes_per_second = 25e9
    for body in engines.bodies.values():
        body.total_blocks = 1000
    return engines


def packing(engines: Fleet, *, full: float = 1.0, reserved: float = 0.5, inter_token: float = 1.0) -> Packing:
    """With nothing placed on them yet."""
    new = Packing(full=full, reserved=reserved, inter_token=inter_token)
    for engine in engines.bodies:
        new.add(engine)
    return new


def run(engines: Fleet, at: Packing, engine: int, *, tokens: int, emitted: int = 1, priority: int = 0) -> Ask:
    """A request that decodes there and holds so many tokens."""
    body = engines.bodies[engine]
    ask = Ask(sum(len(each.asks) for each in engines.bodies.values()), tokens - emitted, priority=priority)
    ask.engine = engine
    body.asks.insert(body.running, ask)
    body.running += 1
    ask.emitted = emitted
    at.placed(ask, engine)
    return ask
