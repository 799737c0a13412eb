"""SGLang's router, policy `cache_aware`: the longest known prefix, unless the load is uneven.

Source: sgl-router (SGLang), its command line's defaults: cache threshold 0.3, balance beyond 64 requests and a factor
of 1.5, eviction each 120 s to 2^26 characters, counted here as tokens of 4 characters. (The Rust library's own
defaults are 0.5, 32, 1.1, 30 s and 10,000.) Reads: requests in flight, the prefixes that engines hold, and the size
of each engine's tree, which is what this router has sent there and not found there. SGLang guesses the prefixes from
what it has routed; here they come from the engines' events, which can only help it. With `prefill=N`: cache-aware
prefill, least-loaded decode.
"""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.policies.base import Decision, Split

CHARACTERS_PER_TOKEN = 4


class SGLangCacheAware(Split):
    """Shortest queue when uneven, else the best match when good enough, else the smallest tree."""

    def __init__(
        self,
        *,
        prefill: int = 0,
        cache_threshold: float = 0.3,
        balance_abs: int = 64,
        balance_rel: float = 1.5,
        eviction_seconds: float = 120.0,
        max_tree_size: int = 2**26,
        seed: int = 0,
    ) -> None:
        super().__init__(prefill=prefill, seed=seed)
        self.cache_threshold, self.balance_abs, self.balance_rel = cache_threshold, balance_abs, balance_rel
        self.period = eviction_seconds
        self.max_tree_tokens = max_tree_size // CHARACTERS_PER_TOKEN
        self._tree_tokens: dict[int, int] = {}

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._tree_tokens = dict.fromkeys(cluster.engines, 0)

    def joined(self, engine: Engine) -> None:
        self._tree_tokens[engine.id] = 0
        super().joined(engine)

    def lost(self, engine: int) -> None:
        super().lost(engine)
        self._tree_tokens.pop(engine, None)

    def tick(self) -> None:
        """Evict down to the largest tree allowed."""
        for engine, tokens in self._tree_tokens.items():
            self._tree_tokens[engine] = min(tokens, self.max_tree_tokens)

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        held = self.cluster.holders(request)
        decision = self._choose(request, candidates, {engine: held.get(engine, 0) for engine in candidates})
        assert decision.chosen is not None
        self._tree_tokens[decision.chosen] += request.prompt_tokens - held.get(decision.chosen, 0)
        return decision

    def _choose(self, request: Request, candidates: Sequence[int], held: dict[int, int]) -> Decision:
        loads = {engine: float(self.flights[engine].count) for engine in candidates}
        most, least = max(loads.values()), min(loads.values())
        if most - least > self.balance_abs and most > self.balance_rel * least:
            return self.lowest(loads, "shortest queue, as the load is uneven", "requests")
        rates = {engine: -held[engine] / request.prompt_tokens for engine in candidates}
        if -min(rates.values()) > self.cache_threshold:
            return self.lowest(rates, "longest prefix", "minus share of the prompt held")
        sizes = {engine: float(self._tree_tokens[engine]) for engine in candidates}
        return self.lowest(sizes, "smallest tree, as no prefix is long enough", "tokens")
