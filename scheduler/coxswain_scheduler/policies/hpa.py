"""Kubernetes' horizontal autoscaler on a utilisation, with least requests as the dispatch.

Source: the HorizontalPodAutoscaler's algorithm and defaults: every 15 s, wanted = ceil(engines · utilisation /
target), nothing within a tolerance of 10 %, and downwards the largest wish of the last 300 s. Engines that are
starting count as there, with the utilisation of none when scaling up. Utilisation is the mean over engines of
`metric`: `kv`, the share of KV blocks held or queued for, or `requests`, requests in flight by `max_num_seqs`. Target
0.8, 1 to 16 engines. Reads those two, and its own count of what it has started. A stopped engine ends what it runs.
"""

from __future__ import annotations

import math
from collections import deque

from coxswain_scheduler.interface import Cluster, Engine
from coxswain_scheduler.policies.least_requests import LeastRequests


class HorizontalAutoscaler(LeastRequests):
    """Least requests over as many engines as a utilisation target asks for."""

    period = 15.0
    TOLERANCE = 0.1
    STABILISATION_SECONDS = 300.0

    def __init__(
        self, *, target: float = 0.8, metric: str = "kv", minimum: int = 1, maximum: int = 16, seed: int = 0
    ) -> None:
        super().__init__(seed=seed)
        if metric not in ("kv", "requests"):
            raise ValueError(f"policy hpa: metric={metric!r} is not kv or requests")
        self.target, self.metric, self.minimum, self.maximum = target, metric, minimum, maximum
        self._starting = 0
        self._wishes: deque[tuple[float, int]] = deque()

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._starting = 0
        self._wishes.clear()

    def joined(self, engine: Engine) -> None:
        self._starting = max(0, self._starting - 1)
        super().joined(engine)

    def tick(self) -> None:
        count = len(self.cluster.engines) + self._starting
        wanted = self._wanted(count)
        for _ in range(wanted - count):
            self._starting += 1
            self.cluster.start()
        for _ in range(min(count - wanted, len(self.cluster.engines) - self.minimum)):
            self.cluster.stop(min(self.cluster.engines, key=lambda engine: self.flights[engine].count))

    def _wanted(self, count: int) -> int:
        """Engines after stabilisation."""
        engines = self.cluster.engines.values()
        used = sum(self._utilisation(engine) for engine in engines)
        ratio = used / max(1, count) / self.target
        wish = count if abs(ratio - 1) <= self.TOLERANCE else math.ceil(count * ratio)
        wish = min(self.maximum, max(self.minimum, wish))
        now = self.cluster.now
        self._wishes.append((now, wish))
        while self._wishes[0][0] < now - self.STABILISATION_SECONDS:
            self._wishes.popleft()
        return wish if wish >= count else min(count, max(wish for _, wish in self._wishes))

    def _utilisation(self, engine: Engine) -> float:
        if self.metric == "requests":
            return self.flights[engine.id].count / engine.max_num_seqs
        return (engine.total_blocks - engine.free_blocks + engine.waiting_blocks) / engine.total_blocks
