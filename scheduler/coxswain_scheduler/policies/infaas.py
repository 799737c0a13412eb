"""INFaaS++: dispatch by memory load, and nothing moves afterwards. It is what Llumnix's paper (OSDI'24) compares with.

INFaaS dispatches to the least loaded engine; the paper's authors had it count an engine's load as the share of its KV
that is in use or that queued requests ask for.

Reads: free blocks, blocks that the queued prompts will take.
"""

from __future__ import annotations

from coxswain_scheduler.policies.base import Baseline
from coxswain_scheduler.policies.interface import Engine, Request


class Infaas(Baseline):
    """The least memory in use or asked for."""

    def admit(self, request: Request) -> bool:
        loads = {engine.id: load(engine) for engine in self.cluster.engines.values()}
        return self.send(request, self.lowest(loads, "least memory in use or asked for", "share of KV"))


def load(engine: Engine) -> float:
    """Share of the engine's KV that is in use or that queued requests ask for; it may be more than one."""
    return (engine.total_blocks - engine.free_blocks + engine.waiting_blocks) / engine.total_blocks
