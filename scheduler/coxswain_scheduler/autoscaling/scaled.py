"""A policy whose engines come and go as an autoscaler says."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from coxswain_scheduler.autoscaling.counts import Counts
from coxswain_scheduler.autoscaling.observation import Answer, Observation
from coxswain_scheduler.interface import Cluster, Engine, Policy, Request

PERIOD_SECONDS = 15.0


class Plan(Protocol):
    """What says how many engines to have: an `Autoscaler`, or a bound's fixed plan."""

    def observe(self, seen: Observation) -> None:
        """Learn."""

    def wanted(self, now: float) -> int:
        """Engines in all."""

    def explain(self) -> str:
        """Why, in one line."""


class Scaled:
    """`inner` dispatches; every `PERIOD_SECONDS`, `plan` is told what happened and asked how many engines to have.

    An engine that leaves is emptied at once: what has no token yet goes back to `inner`, what decodes moves to where
    there is room, and what finds none ends where it is.
    """

    def __init__(self, inner: Policy, plan: Plan, *, hold_seconds: float = math.inf) -> None:
        """While there is no engine at all, requests are held for `hold_seconds`, then refused."""
        self.inner = inner
        self.plan = plan
        self.hold_seconds = hold_seconds
        self.period = min(inner.period or PERIOD_SECONDS, PERIOD_SECONDS)
        self.counts: list[tuple[float, int, int]] = []
        """(seconds, engines ready, engines starting) at each decision."""
        self.why: list[str] = []
        """The line of each decision that changed the number."""

    def begin(self, cluster: Cluster) -> None:
        """Before everything else."""
        self.cluster = cluster
        self._open: dict[int, Request] = {}
        self._held: deque[Request] = deque()
        self._arrivals: list[int] = []
        self._ended: list[Answer] = []
        self._met = self._judged = 0
        self._starting = 0
        self._next = cluster.now + PERIOD_SECONDS
        self.inner.begin(cluster)

    def arrived(self, request: Request) -> None:
        """A new request, or one that has lost its engine."""
        if request.id not in self._open:
            self._open[request.id] = request
            self._arrivals.append(request.prompt_tokens)
        if self.cluster.engines:
            self.inner.arrived(request)
            return
        self._held.append(request)
        if not self._starting:
            self._decide()

    def prefilled(self, request: Request) -> None:
        """On hold after its prefill."""
        self.inner.prefilled(request)

    def ended(self, request: Request) -> None:
        """Count it."""
        self._open.pop(request.id, None)
        self._ended.append(Answer(request.emitted, self.cluster.now - request.arrival))
        self._judged += 1
        goal = self.cluster.objectives
        due = goal.ttft + goal.inter_token * max(0, request.emitted - 1)
        self._met += self.cluster.now - request.arrival <= due
        self.inner.ended(request)

    def stepped(self, engine: Engine) -> None:
        """An engine's batch has changed."""
        self.inner.stepped(engine)

    def tick(self) -> None:
        """Time for the inner policy, and perhaps for a decision."""
        if self.inner.period is not None:
            self.inner.tick()
        while self._held and self.cluster.now - self._held[0].arrival > self.hold_seconds:
            self._refuse(self._held.popleft())
        if self.cluster.now >= self._next - 1e-6:
            self._decide()

    def joined(self, engine: Engine) -> None:
        """One that was asked for is ready."""
        self._starting -= 1
        self.inner.joined(engine)
        while self._held:
            self.inner.arrived(self._held.popleft())

    def lost(self, engine: int) -> None:
        """An engine died."""
        self.inner.lost(engine)

    def explain(self, request: Request) -> str:
        """One line, the inner policy's."""
        return self.inner.explain(request)

    def _decide(self) -> None:
        self._next = self.cluster.now + PERIOD_SECONDS
        self.plan.observe(self._observation())
        self._scale(self.plan.wanted(self.cluster.now))

    def _refuse(self, request: Request) -> None:
        self._open.pop(request.id, None)
        self._judged += 1
        self.cluster.shed(request, f"no engine within {self.hold_seconds:.0f} s")

    def _observation(self) -> Observation:
        now = self.cluster.now
        answers = [Answer(request.emitted, now - request.arrival) for request in self._open.values()]
        prompts = (request.prompt_tokens for request in self._open.values())
        seen = Observation(
            now=now,
            arrivals=self._arrivals,
            open=answers,
            ended=self._ended,
            context=sum(prompt + tokens for prompt, (tokens, _) in zip(prompts, answers, strict=True) if tokens),
            met=self._met,
            judged=self._judged,
            ready=Counts(serve=len(self.cluster.engines)),
        )
        self._arrivals, self._ended = [], []
        self._met = self._judged = 0
        return seen

    def _scale(self, wanted: int) -> None:
        have = len(self.cluster.engines) + self._starting
        if wanted != have:
            self.why.append(self.plan.explain())
        for _ in range(wanted - have):
            self._starting += 1
            self.cluster.start()
        too_many = max(0, have - wanted)
        while too_many and self._starting and self.cluster.cancel():
            self._starting -= 1
            too_many -= 1
        self._stop(too_many)
        self.counts.append((self.cluster.now, len(self.cluster.engines), self._starting))

    def _stop(self, number: int) -> None:
        """Have the emptiest engines leave: all of them first, so that nothing moves from one to the other."""
        emptiest = sorted(self.cluster.engines.values(), key=lambda engine: (-engine.free_blocks, engine.id))[:number]
        requests = [request for engine in emptiest for request in engine.requests]
        for engine in emptiest:
            self.cluster.stop(engine.id)
            self.inner.lost(engine.id)
        free = {other.id: other.free_blocks - other.waiting_blocks for other in self.cluster.engines.values()}
        for request in requests:
            self._evacuate(request, free)

    def _evacuate(self, request: Request, free: dict[int, int]) -> None:
        if not request.emitted:
            self.cluster.take_back(request)
            self.arrived(request)
            return
        if not free:
            return
        target = max(free, key=free.__getitem__)
        size = self.cluster.engines[target].block_size
        blocks = -(-(request.prompt_tokens + request.emitted) // size) + 1
        if free[target] > 2 * blocks:
            free[target] -= blocks
            self.cluster.move(request, target)


class Fixed:
    """A plan that hindsight made: `wanted` engines at each time."""

    def __init__(self, wanted: Callable[[float], int]) -> None:
        self._wanted = wanted

    def observe(self, seen: Observation) -> None:
        """It knows."""

    def wanted(self, now: float) -> int:
        """Engines in all."""
        return self._wanted(now)

    def explain(self) -> str:
        """Nothing to add."""
        return "as planned in hindsight"
