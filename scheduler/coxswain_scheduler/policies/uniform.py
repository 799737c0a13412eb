"""A random engine for each request; with `prefill=N`, a random one of either pool.

Source: the usual one (Mooncake's Fig. 5 compares with it). Reads nothing. No constants.
"""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.interface import Request
from coxswain_scheduler.policies.base import Decision, Split


class Uniform(Split):
    """Uniformly random dispatch."""

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        return Decision(f"a draw from {len(candidates)} engines", "", {}, self.random.choice(candidates))

    settle_decode = route
