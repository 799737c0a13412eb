"""What an autoscaler is told: nothing that a gateway does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coxswain_scheduler.autoscaling.counts import NO_ENGINES, Counts


class Answer(NamedTuple):
    """How far one request has come."""

    tokens: int
    """Output tokens so far; 0 while it waits for the first."""
    age: float
    """Seconds since it arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A service at `now`, and what happened in it since the last observation."""

    now: float
    arrivals: Sequence[int] = ()
    """Prompt tokens of each request that arrived."""
    open: Sequence[Answer] = ()
    """Each request that has not ended."""
    ended: Sequence[Answer] = ()
    """Each request that finished."""
    context: int = 0
    """KV tokens that the open requests with a token hold, about."""
    met: int = 0
    """Of the requests that finished or were shed: those that met their objectives."""
    judged: int = 0
    """Requests that finished or were shed."""
    ready: Counts = NO_ENGINES
    """Engines that serve."""
