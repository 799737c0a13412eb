"""What engines are connected by.

A transfer has the sender's and the receiver's side of the network for itself and waits for both, first come, first
served.
"""

from __future__ import annotations

from math import inf

from coxswain_scheduler.simulator.setup import Setup


class Links:
    """Who sends how much to whom, and when it is there."""

    def __init__(self, setup: Setup) -> None:
        rate = setup.link_bytes_per_second
        self._per_token = setup.kv_bytes_per_token / rate if rate else inf
        self._latency = setup.link_latency_seconds
        self._out: dict[int, float] = {}
        self._in: dict[int, float] = {}

    def send(self, source: int, target: int, tokens: int, now: float) -> float:
        """When `tokens` tokens of KV, sent as soon as both sides are free, are there. Nothing takes no time."""
        if tokens <= 0 or not (self._per_token or self._latency):
            return now
        begins = max(now, self._out.get(source, 0.0), self._in.get(target, 0.0))
        ends = begins + tokens * self._per_token + self._latency
        self._out[source] = self._in[target] = ends
        return ends
