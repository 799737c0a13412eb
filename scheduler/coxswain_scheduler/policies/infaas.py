"""INFaaS++: dispatch by memory load, and nothing moves afterwards. It is what Llumnix's paper (OSDI'24) compares with.

INFaaS dispatches to the least loaded engine; the paper's authors had it count an engine's load as the share of its KV
that is in use or that queued requests ask for. What their artifact runs under its name is Llumnix without migration
(`llumnix:migrate=false`), which dispatches by freeness. With `reports=true` it knows of what it dispatched as they did:
not before the engine reports it (`policies.reports`).

Reads: free blocks, blocks that the queued prompts will take.
"""

from __future__ import annotations

from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.packing import FreeBlocks
from coxswain_scheduler.policies.base import Baseline
from coxswain_scheduler.policies.reports import Reports


class Infaas(Baseline):
    """The least memory in use or asked for."""

    def __init__(self, *, reports: bool = False, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.reports = reports
        self._free, self._reports = FreeBlocks(), Reports()

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._free, self._reports = FreeBlocks(), Reports()

    def admit(self, request: Request) -> bool:
        engines = self.cluster.engines
        loads = {engine.id: self.load(engine) for engine in engines.values()}
        decision = self.lowest(loads, "least memory in use or asked for", "share of KV")
        if self.reports and decision.chosen is not None:
            self._reports.sent(request, engines[decision.chosen], now=self.cluster.now)
        return self.send(request, decision)

    def load(self, engine: Engine) -> float:
        """Share of the engine's KV that is in use or that queued requests ask for; it may be more than one."""
        _, untold = self._reports.untold(engine, now=self.cluster.now)
        used = engine.total_blocks - self._free.now(engine)
        return (used + engine.waiting_blocks - untold) / engine.total_blocks
