"""Mooncake's Conductor: the prefill engine of the lowest predicted TTFT, and refusal before any work is spent.

Source: FAST'25, Algorithm 1. For each prefill engine TTFT = queue + prefill(prompt, prefix held there); the least
wins. The decode engine is the one with the least predicted time between tokens. If either is beyond its objective,
the request is refused at once. With `predict=true` the decode load is that expected at the end of the prefill, every
decode lasting as long as the mean of those seen (the paper's remedy against oscillation). Where an engine misses more
than 1 / `balancing_threshold` of the best prefix, the paper fetches the best one from its holder and replicates it: a
policy here has no call to copy a prefix between engines, so that branch is absent and the prompt is computed.

Constants: half of the engines prefill unless `prefill=N` says otherwise (the paper's clusters are 10:10 and the
like); the objectives are the cluster's. Reads: the prefix index, its own queue of predicted prefill seconds, each
engine's cost model, decoding sequences and context, and the requests it has booked but which do not decode yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.policies.base import Decision, Split, prefill_seconds


class MooncakeConductor(Split):
    """Algorithm 1 with early rejection."""

    def __init__(self, *, prefill: int = 0, reject: bool = True, predict: bool = False, seed: int = 0) -> None:
        super().__init__(prefill=prefill, seed=seed)
        self.reject, self.predict = reject, predict
        self._booked: dict[int, dict[int, Request]] = {}
        self._decoding_since: dict[int, float] = {}
        self._mean_decode_seconds = 0.0

    def begin(self, cluster: Cluster) -> None:
        self.prefill = self.prefill or len(cluster.engines) // 2
        self._mean_decode_seconds = 0.0
        self._booked, self._decoding_since = {engine: {} for engine in cluster.engines}, {}
        super().begin(cluster)

    def admit(self, request: Request) -> bool:
        prefill = self._by_ttft(request)
        assert prefill.chosen is not None
        ttft = prefill.scores[prefill.chosen]
        decode = self._by_inter_token(request, ttft)
        assert decode.chosen is not None
        if self.reject and not request.emitted and (why := self._beyond(ttft, decode.scores[decode.chosen])):
            return self.refuse(request, Decision(why, prefill.measure, prefill.scores, None))
        self._booked.setdefault(decode.chosen, {})[request.id] = request
        queued = self.flights[prefill.chosen].queue_seconds(self.cluster.now)
        tokens = request.prompt_tokens - min(self.cluster.cached(request, prefill.chosen), request.prompt_tokens - 1)
        self.send(request, prefill, tokens=tokens, seconds=ttft - queued, hold=True)
        if self.flights.get(request) is None:
            self._unbook(request)
        return True

    def settle_decode(self, request: Request, candidates: Sequence[int]) -> Decision:
        """The engine that was booked, if it is still there."""
        self._decoding_since[request.id] = self.cluster.now
        booked = [engine for engine in candidates if request.id in self._booked.get(engine, ())]
        if booked:
            return Decision("booked at admission", "", {}, booked[0])
        return self._by_inter_token(request, 0.0)

    def ended(self, request: Request) -> None:
        self._unbook(request)
        started = self._decoding_since.pop(request.id, None)
        if started is not None:
            taken = self.cluster.now - started
            self._mean_decode_seconds += 0.01 * (taken - self._mean_decode_seconds)
        super().ended(request)

    def stepped(self, engine: Engine) -> None:
        """Those that decode by now are in the engine's own report."""
        booked = self._booked.get(engine.id, {})
        for request in [other for other in booked.values() if other.engine == engine.id and other.emitted]:
            del booked[request.id]
        super().stepped(engine)

    def arrived(self, request: Request) -> None:
        self._unbook(request)
        super().arrived(request)

    def lost(self, engine: int) -> None:
        self._booked.pop(engine, None)
        super().lost(engine)

    def _unbook(self, request: Request) -> None:
        for booked in self._booked.values():
            booked.pop(request.id, None)

    def _by_ttft(self, request: Request) -> Decision:
        held = self.cluster.holders(request)
        seconds: dict[tuple[int, int], float] = {}
        ttfts = {}
        for engine in self.pool("Prefill"):
            body, cached = self.cluster.engines[engine], held.get(engine, 0)
            alike = (id(body.timing), cached)
            if alike not in seconds:
                seconds[alike] = prefill_seconds(body, request.prompt_tokens, cached)
            ttfts[engine] = self.flights[engine].queue_seconds(self.cluster.now) + seconds[alike]
        return self.lowest(ttfts, "lowest predicted TTFT", "seconds")

    def _by_inter_token(self, request: Request, ttft: float) -> Decision:
        engines = self.cluster.engines
        gaps = {engine: self._inter_token(engines[engine], request, ttft) for engine in self.pool("Decode")}
        return self.lowest(gaps, "least predicted inter-token time", "seconds")

    def _inter_token(self, engine: Engine, request: Request, ttft: float) -> float:
        """With the request, and with all that is booked, decoding on `engine`; beyond the objective if it has no slot
        or no KV for them."""
        decodes, context = engine.decoding, engine.context
        if self.predict and decodes:
            decodes, context = self._left_after(engine, ttft)
        booked = [other for other in self._booked.get(engine.id, {}).values() if other is not request]
        decodes += len(booked) + 1
        context += sum(other.prompt_tokens for other in booked) + request.prompt_tokens
        full = max(decodes / engine.max_num_seqs, context / (engine.total_blocks * engine.block_size))
        if full > 1:
            return self.cluster.objectives.inter_token * (1 + full)
        return engine.timing.decode_seconds(decodes, context, 1)

    def _left_after(self, engine: Engine, seconds: float) -> tuple[int, int]:
        """Sequences and context that still decode after `seconds`, each decoding for the mean time."""
        then = self.cluster.now + seconds - (self._mean_decode_seconds or float("inf"))
        left = [request for request in engine.requests if self._decoding_since.get(request.id, then) >= then]
        return len(left), sum(request.prompt_tokens + request.emitted for request in left)

    def _beyond(self, ttft: float, inter_token: float) -> str:
        objectives = self.cluster.objectives
        if ttft > objectives.ttft:
            return f"predicted TTFT {ttft:.3g} s is beyond {objectives.ttft:.3g} s"
        if inter_token > objectives.inter_token:
            return f"predicted inter-token time {inter_token:.3g} s is beyond {objectives.inter_token:.3g} s"
        return ""
