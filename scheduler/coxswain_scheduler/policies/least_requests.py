"""Least requests in flight; with `prefill=N`, per pool.

Source: the usual one (Envoy's and vLLM production-stack's least-request, Vidur's LOR). Reads the gateway's own count
of requests in flight on each engine. No constants.
"""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.interface import Request
from coxswain_scheduler.policies.base import Decision, Split


class LeastRequests(Split):
    """The engine with the fewest requests in flight, ties at random."""

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        loads = {engine: float(self.flights[engine].count) for engine in candidates}
        return self.lowest(loads, "fewest in flight", "requests")
