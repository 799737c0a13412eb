"""How many replicas the service needs: the autoscaler of `coxswain_scheduler`, told what the gateways saw.

It says so and no more. What it has learnt is gone with the process, and learnt anew within minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from coxswain_protocol.status import Recommendation
from coxswain_protocol.traffic import EngineKind, Traffic
from coxswain_scheduler.autoscaling.autoscaler import Autoscaler
from coxswain_scheduler.autoscaling.capacity import EngineShape
from coxswain_scheduler.autoscaling.counts import Counts
from coxswain_scheduler.autoscaling.goals import Goals
from coxswain_scheduler.autoscaling.observation import Answer, Observation
from coxswain_scheduler.costs.line import LineTiming
from coxswain_scheduler.interface import Objectives
from coxswain_workers.coordinator.settings import Settings

log = logging.getLogger(__name__)

_MOST_REPLICAS = 1000
"""As many as an LLMService may have."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Of a gateway: up to where its events are known, and in which round it said so."""

    cursor: str
    round: int


class Recommender:
    """`take` what the gateways say, at regular times; `latest` is the recommendation."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError where an objective is missing."""
        if settings.ttft_seconds is None or settings.inter_token_seconds is None:
            raise ValueError("replicas are recommended by both objectives: TTFT and inter-token")
        objectives = Objectives(ttft=settings.ttft_seconds, inter_token=settings.inter_token_seconds)
        self._goals = Goals(
            objectives=objectives,
            attainment=settings.attainment,
            startup_seconds=settings.startup_seconds,
            maximum=_MOST_REPLICAS,
        )
        self._autoscaler: Autoscaler | None = None
        self._gateways: dict[str, _Known] = {}
        self._round = 0
        self._began: float | None = None
        self.latest: Recommendation | None = None

    def cursor(self, gateway: str) -> str:
        """What to ask a gateway with."""
        known = self._gateways.get(gateway)
        return known.cursor if known else ""

    def take(self, answers: Mapping[str, Traffic], *, now: float) -> None:
        """What each gateway answered, by its address. A round that one of the last round missed is left out: its
        requests are not gone."""
        self._round += 1
        missing = [name for name, known in self._gateways.items() if known.round == self._round - 1]
        if answers and not set(missing) - set(answers):
            self._observe(answers, now)
        for name, answer in answers.items():
            self._gateways[name] = _Known(answer.cursor, self._round)

    def _observe(self, answers: Mapping[str, Traffic], now: float) -> None:
        kinds = [answer.kinds[0] for answer in answers.values() if answer.kinds]
        if not kinds:
            return
        shape = _shape(kinds[0])
        if self._autoscaler is None or self._began is None:
            self._autoscaler, self._began = Autoscaler(shape, self._goals), now
            return
        self._autoscaler.shape = shape
        self._autoscaler.observe(self._observation(answers, now - self._began))
        self._decide(self._autoscaler, now - self._began)

    def _decide(self, autoscaler: Autoscaler, now: float) -> None:
        decision = autoscaler.decide(now)
        before, self.latest = self.latest, Recommendation(decision.counts.total, decision.explain())
        if not decision.capacity.sequences:
            self.latest = None  # no number of replicas keeps to objectives that one cannot keep alone
        elif before is None or before.replicas != self.latest.replicas:
            log.info("recommended: %s", self.latest.why)

    def _observation(self, answers: Mapping[str, Traffic], now: float) -> Observation:
        """Of gateways that are new only what is open: what happened there before is not of this period."""
        known = [answer for name, answer in answers.items() if name in self._gateways]
        ended = [Answer(*one) for answer in known for one in answer.ended]
        return Observation(
            now=now,
            arrivals=[tokens for answer in known for tokens in answer.arrivals],
            open=[Answer(*one) for answer in answers.values() for one in answer.open],
            ended=ended,
            context=sum(answer.context for answer in answers.values()),
            met=sum(map(self._in_time, ended)),
            judged=len(ended) + sum(answer.failed for answer in known),
            ready=Counts(serve=max(sum(kind.replicas for kind in answer.kinds) for answer in answers.values())),
        )

    def _in_time(self, answer: Answer) -> bool:
        goal = self._goals.objectives
        return answer.age <= goal.ttft + goal.inter_token * max(0, answer.tokens - 1)


def _shape(kind: EngineKind) -> EngineShape:
    cost = kind.cost
    return EngineShape(
        timing=LineTiming(cost.step, cost.prefill_token, cost.decode, cost.context_token),
        kv_tokens=kind.kv_tokens,
        max_num_seqs=kind.max_num_seqs,
        step_tokens=kind.step_tokens,
    )
