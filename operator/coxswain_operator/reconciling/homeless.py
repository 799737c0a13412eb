"""Pods that no node has room for, and since when: an autoscaler of nodes gets its chance before one makes room."""

from __future__ import annotations

from collections.abc import Iterable

PATIENCE_SECONDS = 60.0


class Homeless:
    """Times are seconds on the caller's clock; Pods go by name."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def observe(self, pods: Iterable[str], *, now: float) -> None:
        """The Pods that the scheduler finds no node for now; all others have one, or are gone."""
        self._since = {pod: self._since.get(pod, now) for pod in pods}

    def for_good(self, *, now: float) -> frozenset[str]:
        """Those that have waited long enough."""
        return frozenset(pod for pod, since in self._since.items() if now - since >= PATIENCE_SECONDS)

    def waits(self, *, now: float) -> list[float]:
        """Seconds until each of the others will have."""
        return [left for since in self._since.values() if (left := since + PATIENCE_SECONDS - now) > 0]
