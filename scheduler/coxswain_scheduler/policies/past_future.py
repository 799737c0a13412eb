"""Past-Future admission: a request waits at the gateway until the predicted peak of an engine's KV has room for it.

Source: ModelTC/lightllm, ASPLOS'25 (arXiv 2507.10150). An engine's requests hold a_i tokens and will emit b_i more;
sorted by b, longest first, the KV peaks at the largest of a_1 + … + a_k + k·b_k. A request is admitted if that peak,
with it, stays below the capacity less 5 %. b is drawn from the last 200 finished output lengths that are longer than
what the request has emitted, interpolated between neighbours; of 5 such draws for all requests the largest peak
counts. Until the first length is known, `max_new` tokens stand for it: the interface has no max_tokens.

LightLLM admits per engine, in arrival order; at the gateway the engine of the lowest predicted peak is tried, which
is the "future freeness". Reads: the tokens of each request on an engine, its capacity, finished lengths.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.policies.base import Baseline


def peak_tokens(held: NDArray[np.float64], remaining: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest KV that requests will ever hold together: of the same number of draws D for N requests, `held` is N
    tokens and `remaining` D × N; the answer is D tokens."""
    if held.size == 0:
        return np.zeros(len(remaining))
    order = np.argsort(-remaining, axis=1)
    longest = np.take_along_axis(remaining, order, axis=1)
    together = np.cumsum(held[order], axis=1) + np.arange(1, held.size + 1) * longest
    return np.asarray(together.max(axis=1))


class PastFuture(Baseline):
    """Admit where and when the predicted peak fits."""

    def __init__(
        self, *, history: int = 200, draws: int = 5, reserved: float = 0.05, max_new: int = 2048, seed: int = 0
    ) -> None:
        super().__init__(seed=seed)
        self.draws, self.reserved, self.max_new = draws, reserved, max_new
        self._generator = np.random.default_rng(seed)
        self._finished: deque[int] = deque(maxlen=history)
        self._lengths = np.array([float(max_new)])
        self._refused: set[int] = set()

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._finished.clear()
        self._lengths = np.array([float(self.max_new)])
        self._refused.clear()

    def ended(self, request: Request) -> None:
        if request.emitted:
            self._finished.append(request.emitted)
            self._lengths = np.sort(np.array(self._finished, dtype=np.float64))
        super().ended(request)

    def admit(self, request: Request) -> bool:
        shares = {
            engine.id: self._peak(engine, request) / (engine.total_blocks * engine.block_size)
            for engine in self.cluster.engines.values()
            if engine.id not in self._refused and self.flights[engine.id].count < engine.max_num_seqs
        }
        if not shares:
            return False
        decision = self.lowest(shares, "lowest predicted peak", "share of KV")
        assert decision.chosen is not None
        alone = not self.flights[decision.chosen].count
        if shares[decision.chosen] >= 1 - self.reserved and not alone:
            self._refused.update(shares)
            return False
        self._refused.clear()
        return self.send(request, decision)

    def stepped(self, engine: Engine) -> None:
        """Only an engine that changes can have room for a request that found none."""
        self._refused.discard(engine.id)
        super().stepped(engine)

    def _peak(self, engine: Engine, candidate: Request) -> float:
        """The engine's predicted peak with the candidate, the largest of all draws."""
        requests = [flight.request for flight in self.flights[engine.id].flights.values()] + [candidate]
        emitted = np.array([float(request.emitted) for request in requests])
        held = np.array([float(request.prompt_tokens) for request in requests]) + emitted
        return float(peak_tokens(held, self._remaining(emitted)).max())

    def _remaining(self, emitted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draws × requests: tokens still to come, from the finished lengths above `emitted`."""
        lengths = self._lengths
        first = np.searchsorted(lengths, emitted, side="right")
        place = first + self._generator.random((self.draws, emitted.size)) * np.maximum(lengths.size - 1 - first, 0)
        drawn = np.interp(place, np.arange(lengths.size), lengths)
        return np.asarray(np.maximum(drawn - emitted, 1.0))
