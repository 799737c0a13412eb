"""Made-up services to scale: a steady or changing flow of requests on engines that are never short."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coxswain_scheduler.autoscaling.capacity import EngineShape
from coxswain_scheduler.autoscaling.counts import Counts
from coxswain_scheduler.autoscaling.observation import Answer, Observation
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.interface import Objectives

OBJECTIVES = Objectives(ttft=5.0, inter_token=0.05)
H100 = profile("h100-llama-3-8b")
SHAPE = EngineShape(
    timing=H100.timing,
    kv_tokens=H100.total_blocks * H100.block_size,
    max_num_seqs=H100.max_num_seqs,
    step_tokens=H100.step_tokens,
)


@dataclass
class Flow:
    """Requests that arrive at `rate(t)` per second; every token of an answer takes `token_seconds`."""

    rate: Callable[[float], float]
    prompt_tokens: int = 500
    output_tokens: int = 1000
    token_seconds: float = 0.012
    period: float = 15.0
    ready: int = 4
    seed: int = 0
    _live: list[tuple[float, int]] = field(default_factory=list)

    def observations(self, seconds: float) -> Iterator[Observation]:
        """One each `period`, up to `seconds`."""
        chance = random.Random(self.seed)
        now, due = 0.0, 0.0
        while now < seconds:
            now += self.period
            due += self.rate(now) * self.period
            fresh = int(due)
            due -= fresh
            self._live += [
                (now - chance.random() * self.period, max(1, round(chance.expovariate(1 / self.output_tokens))))
                for _ in range(fresh)
            ]
            yield self._seen(now, fresh)

    def _seen(self, now: float, fresh: int) -> Observation:
        answers = [(Answer(int((now - began) / self.token_seconds), now - began), total) for began, total in self._live]
        ended = [Answer(total, answer.age) for answer, total in answers if answer.tokens >= total]
        live = [answer for answer, total in answers if answer.tokens < total]
        pairs = zip(self._live, answers, strict=True)
        self._live = [one for one, (answer, total) in pairs if answer.tokens < total]
        return Observation(
            now=now,
            arrivals=[self.prompt_tokens] * fresh,
            open=live,
            ended=ended,
            context=sum(answer.tokens + self.prompt_tokens for answer in live),
            met=len(ended),
            judged=len(ended),
            ready=Counts(serve=self.ready),
        )
