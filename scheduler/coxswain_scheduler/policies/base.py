"""What the baseline policies share: a queue at the gateway, the ledger of requests in flight, pools, and the note why.

A baseline says one thing, `admit`: what becomes of the request at the head of the queue. Dispatching at once, as most
do, leaves the queue empty; a policy that waits for room answers False and is asked again when an engine changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.interface import Cluster, Engine, Request, Role
from coxswain_scheduler.policies.flights import Flights


class Decision(NamedTuple):
    """Why a request went where it went; kept as numbers, worded only when asked for."""

    rule: str
    measure: str
    """What the scores are, with their unit."""
    scores: Mapping[int, float]
    """Of each engine that was looked at."""
    chosen: int | None
    """None: refused."""

    def __str__(self) -> str:
        seen = ", ".join(f"{engine}: {score:.4g}" for engine, score in self.scores.items())
        where = "refused" if self.chosen is None else f"engine {self.chosen}"
        return f"{where} by {self.rule}" + (f" ({self.measure}: {seen})" if seen else "")


def prefill_seconds(engine: Engine, prompt_tokens: int, cached: int = 0) -> float:
    """Seconds that `engine` needs for a prompt of which it holds `cached` tokens, alone and in steps of its budget."""
    seconds, start = 0.0, min(cached, prompt_tokens - 1)
    while start < prompt_tokens:
        count = min(engine.step_tokens, prompt_tokens - start)
        seconds += engine.timing.seconds(Work(count, count * start + count * (count + 1) // 2))
        start += count
    return seconds


class Baseline:
    """A policy that dispatches in order of arrival. Subclasses write `admit`, and override what else they need."""

    period: float | None = None
    cluster: Cluster

    def __init__(self, *, seed: int = 0) -> None:
        self.random = Random(seed)
        self.flights = Flights()
        self.queue: deque[Request] = deque()

    def admit(self, request: Request) -> bool:
        """Dispatch or shed `request` and answer True, or False to keep it, and all behind it, waiting."""
        raise NotImplementedError

    def begin(self, cluster: Cluster) -> None:
        self.cluster, self.flights, self.queue = cluster, Flights(), deque()
        for engine in cluster.engines.values():
            self.flights.join(engine.id)
            for request in engine.requests:
                tokens = 0 if request.emitted else request.prompt_tokens
                self.flights.add(request, engine.id, tokens=tokens, now=cluster.now)

    def arrived(self, request: Request) -> None:
        self.flights.remove(request, now=self.cluster.now)
        self.queue.append(request)
        self.drain()

    def drain(self) -> None:
        """Admit what can be admitted, in order."""
        while self.queue and self.cluster.engines and self.admit(self.queue[0]):
            self.queue.popleft()

    def prefilled(self, request: Request) -> None:
        if request.engine is not None:
            self.cluster.place(request, request.engine)

    def ended(self, request: Request) -> None:
        if not self.flights.remove(request, now=self.cluster.now) and request in self.queue:
            self.queue.remove(request)
        self.drain()

    def stepped(self, engine: Engine) -> None:
        self.flights.settle(engine.id, now=self.cluster.now)
        if self.queue:
            self.drain()

    def tick(self) -> None:
        """Most have nothing to do between events."""

    def joined(self, engine: Engine) -> None:
        self.flights.join(engine.id)
        self.drain()

    def lost(self, engine: int) -> None:
        self.flights.drop(engine)

    def explain(self, request: Request) -> str:
        return str(request.note) if isinstance(request.note, Decision) else f"{type(self).__name__}: nothing decided"

    def send(
        self,
        request: Request,
        decision: Decision,
        *,
        tokens: int | None = None,
        seconds: float = 0.0,
        rank: float = 0.0,
        hold: bool = False,
    ) -> bool:
        """Dispatch as decided. `tokens` and `seconds` of prefill are what the ledger shall carry for it."""
        assert decision.chosen is not None
        request.note = decision
        tokens = request.prompt_tokens if tokens is None else tokens
        self.flights.add(request, decision.chosen, tokens=tokens, seconds=seconds, now=self.cluster.now)
        self.cluster.dispatch(request, decision.chosen, rank=rank, hold=hold)
        if request.engine is None:  # no engine could ever hold it
            self.flights.remove(request, now=self.cluster.now)
        return True

    def refuse(self, request: Request, decision: Decision) -> bool:
        """Shed a request that has emitted nothing."""
        request.note = decision
        self.cluster.shed(request, decision.rule)
        return True

    def lowest(self, scores: Mapping[int, float], rule: str, measure: str) -> Decision:
        """The engine of the lowest score, ties at random."""
        least = min(scores.values())
        best = [engine for engine, score in scores.items() if score == least]
        chosen = best[0] if len(best) == 1 else self.random.choice(best)
        return Decision(rule, measure, scores, chosen)


class Split(Baseline):
    """Aggregated by default; with `prefill=N` the first N engines only prefill and the others only decode.

    Subclasses write `route`, and `settle_decode` where fewest in flight is not their rule.
    """

    def __init__(self, *, prefill: int = 0, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if prefill < 0:
            raise ValueError(f"prefill={prefill}: must not be negative")
        self.prefill = prefill

    def route(self, request: Request, candidates: Sequence[int]) -> Decision:
        """Where `request` is prefilled, and decodes too if the engines are aggregated."""
        raise NotImplementedError

    def settle_decode(self, request: Request, candidates: Sequence[int]) -> Decision:
        """Where a prefilled request decodes."""
        loads = {engine: float(self.flights[engine].count) for engine in candidates}
        return self.lowest(loads, "fewest decodes in flight", "requests")

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        if self.prefill >= len(cluster.engines) > 0:
            raise ValueError(f"prefill={self.prefill}: leaves none of {len(cluster.engines)} engines to decode")
        if not any(engine.role == "Prefill" for engine in cluster.engines.values()):  # else only the scheduler is new
            self.assign_roles()

    def assign_roles(self) -> None:
        """The engines of the lowest ids prefill."""
        for place, (_, engine) in enumerate(sorted(self.cluster.engines.items())):
            engine.role = "Serve" if not self.prefill else "Prefill" if place < self.prefill else "Decode"

    def pool(self, role: Role) -> list[int]:
        """Engines of a role; all when none has it, since any engine can do both."""
        engines = self.cluster.engines
        return [key for key, engine in engines.items() if engine.role == role] or list(engines)

    def admit(self, request: Request) -> bool:
        role: Role = "Prefill" if self.prefill else "Serve"
        decision = self.route(request, self.pool(role))
        if decision.chosen is None:
            return self.refuse(request, decision)
        cached = min(self.cluster.cached(request, decision.chosen), request.prompt_tokens - 1)
        return self.send(request, decision, tokens=request.prompt_tokens - cached, hold=bool(self.prefill))

    def prefilled(self, request: Request) -> None:
        if not self.cluster.engines:
            return
        decision = self.settle_decode(request, self.pool("Decode"))
        assert decision.chosen is not None
        request.note = decision
        self.flights.remove(request, now=self.cluster.now)
        self.flights.add(request, decision.chosen, tokens=0, now=self.cluster.now)
        self.cluster.place(request, decision.chosen)

    def joined(self, engine: Engine) -> None:
        if self.prefill:
            prefilling = sum(other.role == "Prefill" for other in self.cluster.engines.values() if other is not engine)
            engine.role = "Prefill" if prefilling < self.prefill else "Decode"
        super().joined(engine)
