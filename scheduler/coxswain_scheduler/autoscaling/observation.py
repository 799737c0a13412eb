"""What an autoscaler is told: nothing that a gateway does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coxswain_scheduler.autoscaling.counts import NO_ENGINES, Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A service at `now`, and what happened in it since the last observation."""

    now: float
    arrivals: Sequence[int] = ()
    """Prompt tokens of each request that arrived."""
    live: Sequence[int] = ()
    """Output tokens so far of each request that is in an engine."""
    ended: Sequence[int] = ()
    """Output tokens of each request that finished."""
    context: int = 0
    """KV tokens that the live requests hold, about."""
    waiting: int = 0
    """Requests held or queued whose prefill has not begun; they are not in `live`."""
    oldest_wait: float = 0.0
    """Seconds that the first of these has waited."""
    met: int = 0
    """Of the requests that finished or were shed: those that met their objectives."""
    judged: int = 0
    """Requests that finished or were shed."""
    ready: Counts = NO_ENGINES
    """Engines that serve."""
