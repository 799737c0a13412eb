"""A static split, N engines to prefill and the others to decode: what the best split in hindsight is found with.

Source: DistServe and Splitwise agree on the dispatch: the prefill queue with the fewest tokens, the decode engine
with the least KV. A prompt's own tokens count there without those that the engine holds (`prefix=false`: whole).
Reads: the gateway's own count of prefill tokens and context in flight, and the prefix index. No constants:
`prefill=N`, half of the engines if not given, and a sweep over N is the "best in hindsight".
"""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.interface import Cluster, Request
from coxswain_scheduler.policies.base import Decision, Split


class Static(Split):
    """Shortest prefill queue, least KV."""

    def __init__(self, *, prefill: int = 0, prefix: bool = True, seed: int = 0) -> None:
        super().__init__(prefill=prefill, seed=seed)
        self.prefix = prefix

    def begin(self, cluster: Cluster) -> None:
        self.prefill = self.prefill or len(cluster.engines) // 2
        super().begin(cluster)

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        held = self.cluster.holders(request) if self.prefix else {}
        tokens = {
            engine: float(self.flights[engine].tokens + request.prompt_tokens - held.get(engine, 0))
            for engine in candidates
        }
        return self.lowest(tokens, "shortest prefill queue", "tokens")

    def settle_decode(self, request: Request, candidates: Sequence[int]) -> Decision:
        context = {engine: float(self.flights[engine].context) for engine in candidates}
        return self.lowest(context, "least KV in flight", "tokens")
