"""DistServe: the static split whose simulated goodput is highest, then static.

Source: DistServe, OSDI'24. For each split of the engines a small simulation finds by bisection, to 0.25 requests/s,
the highest Poisson rate at which 90 % of the requests meet both objectives; the best split is kept. Prefill is first
come first served on the least loaded engine, decoding is continuous batching on engines taken in turn. One
parallelism, that of the engines, so the search is over the split alone. Lengths come from the first `sample` finished
requests (300), drawn at random, their prompts without what the engines held; until then half of the engines prefill.
DistServe plans from a trace's history and re-plans when it shifts: `replan=true` searches again after each `sample`
more.

Afterwards: the prefill queue of the fewest tokens, the decode engine of the least KV, no regard to prefixes. Reads:
the prompts and output lengths of finished requests, an engine's cost model, its own count of tokens in flight.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from coxswain_scheduler.interface import Cluster, Engine, Objectives, Request
from coxswain_scheduler.policies.base import prefill_seconds
from coxswain_scheduler.policies.static import Static

ATTAINMENT = 0.9
RATE_STEP = 0.25
TRIAL_REQUESTS = 2000
"""Long enough for decodes to queue."""


class Sample(NamedTuple):
    """A finished request."""

    prefill_seconds: float
    prompt_tokens: int
    output_tokens: int


class DistServe(Static):
    """Search the split once enough requests have ended."""

    def __init__(self, *, sample: int = 300, replan: bool = False, seed: int = 0) -> None:
        super().__init__(prefix=False, seed=seed)
        self.sample, self.replan = sample, replan
        self._samples: list[Sample] = []
        self._searched = False
        self._computed: dict[int, int] = {}

    def begin(self, cluster: Cluster) -> None:
        super().begin(cluster)
        self._samples.clear()
        self._computed.clear()
        self._searched = False

    def prefilled(self, request: Request) -> None:
        if (self.replan or not self._searched) and (flight := self.flights.get(request)):
            self._computed[request.id] = flight.tokens
        super().prefilled(request)

    def ended(self, request: Request) -> None:
        super().ended(request)
        if request.emitted and (self.replan or not self._searched):
            self._learn(request)

    def _learn(self, request: Request) -> None:
        engines = self.cluster.engines
        if len(engines) < 2:
            return
        engine = next(iter(engines.values()))
        held = request.prompt_tokens - self._computed.pop(request.id, request.prompt_tokens)
        seconds = prefill_seconds(engine, request.prompt_tokens, held)
        self._samples.append(Sample(seconds, request.prompt_tokens, request.emitted))
        if len(self._samples) >= self.sample:
            self._search(engine)

    def _search(self, engine: Engine) -> None:
        count, objectives, seed = len(self.cluster.engines), self.cluster.objectives, self.random.random()
        rates = {
            split: highest_rate(self._samples, (split, count - split), engine, objectives, Random(seed))
            for split in range(1, count)
        }
        self.prefill = max(rates, key=rates.__getitem__)
        self._samples, self._searched = [], True
        self._computed.clear()
        self.assign_roles()


def highest_rate(
    samples: Sequence[Sample], split: tuple[int, int], engine: Engine, objectives: Objectives, random: Random
) -> float:
    """Requests/s, to a quarter, up to which a `split` into prefill and decode engines keeps 90 % in the objectives."""
    drawn = random.choices(samples, k=TRIAL_REQUESTS)
    gaps = [random.expovariate(1.0) for _ in drawn]
    low, high = 0.0, split[0] / (sum(sample.prefill_seconds for sample in drawn) / len(drawn)) + RATE_STEP
    while high - low > RATE_STEP:
        rate = (low + high) / 2
        arrivals = _arrivals(gaps, rate)
        if attained(drawn, arrivals, split, engine, objectives) >= ATTAINMENT:
            low = rate
        else:
            high = rate
    return low


def attained(
    samples: Sequence[Sample],
    arrivals: Sequence[float],
    split: tuple[int, int],
    engine: Engine,
    objectives: Objectives,
) -> float:
    """Share of the requests in both objectives."""
    prefill, decode = split
    done = _prefill(samples, arrivals, prefill)
    good = 0
    order = sorted(range(len(samples)), key=done.__getitem__)
    for server in range(decode):
        mine = order[server::decode]
        ends = _decode([samples[i] for i in mine], [done[i] for i in mine], engine)
        for i, end in zip(mine, ends, strict=True):
            gap = (end - done[i]) / max(1, samples[i].output_tokens - 1)
            good += done[i] - arrivals[i] <= objectives.ttft and gap <= objectives.inter_token
    return good / len(samples)


def _arrivals(gaps: Sequence[float], rate: float) -> list[float]:
    now, times = 0.0, []
    for gap in gaps:
        now += gap / rate
        times.append(now)
    return times


def _prefill(samples: Sequence[Sample], arrivals: Sequence[float], engines: int) -> list[float]:
    """When each prompt is computed."""
    free = [0.0] * engines
    done = []
    for sample, arrival in zip(samples, arrivals, strict=True):
        end = max(arrival, heapq.heappop(free)) + sample.prefill_seconds
        heapq.heappush(free, end)
        done.append(end)
    return done


def _decode(samples: Sequence[Sample], starts: Sequence[float], engine: Engine) -> list[float]:
    """When each answer is complete on one engine, which takes them as they come while it has a slot and KV for them;
    what grows beyond the KV is not preempted."""
    ends, running = [0.0] * len(samples), list[tuple[int, int]]()
    capacity = engine.total_blocks * engine.block_size
    now, step, context, next_ = 0.0, 0, 0, 0
    while next_ < len(samples) or running:
        if not running:
            now = max(now, starts[next_])
        while next_ < len(samples) and starts[next_] <= now and len(running) < engine.max_num_seqs:
            if running and context + samples[next_].prompt_tokens > capacity:
                break
            heapq.heappush(running, (step + max(1, samples[next_].output_tokens - 1), next_))
            context += samples[next_].prompt_tokens
            next_ += 1
        steps = running[0][0] - step
        if next_ < len(samples) and starts[next_] > now and len(running) < engine.max_num_seqs:
            fitting = engine.timing.decode_steps(len(running), context, starts[next_] - now)
            steps = min(steps, fitting + 1)
        now += engine.timing.decode_seconds(len(running), context, steps)
        step, context = step + steps, context + steps * len(running)
        while running and running[0][0] <= step:
            _, i = heapq.heappop(running)
            ends[i] = now
            context -= samples[i].prompt_tokens + max(1, samples[i].output_tokens - 1)
    return ends
