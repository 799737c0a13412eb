"""Power of two choices: two engines at random, the one with fewer requests in flight.

Source: Mitzenmacher's two choices, as SGLang's router has it (`power_of_two`). Reads the gateway's own count of
requests in flight. No constants. With `prefill=N` the rule holds in both pools.
"""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.interface import Request
from coxswain_scheduler.policies.base import Decision, Split


class PowerOfTwo(Split):
    """The less loaded of two random engines."""

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        pair = self.random.sample(candidates, min(2, len(candidates)))
        loads = {engine: float(self.flights[engine].count) for engine in pair}
        return self.lowest(loads, "fewer in flight of two", "requests")

    settle_decode = route
