"""A synthetic trace of conversations, for tuning: options must not be chosen on the trace that the tables show.

Conversations begin as a Poisson process. Each opens with one of 16 system prompts (Zipf: the k-th most popular has
weight 1/k) of 1 to 8 chunks and then takes turns: a geometric number of them, 4 in the mean. Every turn adds a
question (lognormal, median 500 tokens, one in twelve with a document of some 12,000) to all that was said, and gets an
answer (lognormal, median 220). The next one comes after the answer's reading time, exponential with a mean of 45 s.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import accumulate, count
from random import Random

from coxswain_scheduler.simulator.trace import Trace, TraceRequest

CHUNK_TOKENS = 512
_SYSTEM_PROMPTS = 16
_MEAN_TURNS = 4
_THINK_SECONDS = 45.0
_STARTS_PER_SECOND = 1.0
_LONGEST_PROMPT = 120_000


def conversations(requests: int, *, seed: int = 0) -> Trace:
    """So many requests in order of arrival; equal arguments give equal traces."""
    source, names = Random(f"turns {seed}"), count()
    systems = [[next(names) for _ in range(source.randint(1, 8))] for _ in range(_SYSTEM_PROMPTS)]
    weights = list(accumulate(1 / rank for rank in range(1, _SYSTEM_PROMPTS + 1)))
    started, waiting = 0.0, list[tuple[float, int, TraceRequest]]()
    found: list[TraceRequest] = []
    for order in count():
        while waiting and waiting[0][0] <= started:
            found.append(heapq.heappop(waiting)[2])
        if len(found) >= requests:
            break
        system = source.choices(systems, cum_weights=weights)[0]
        for turn, request in enumerate(_turns(source, names, started, system)):
            heapq.heappush(waiting, (request.arrival, order * 1000 + turn, request))
        started += source.expovariate(_STARTS_PER_SECOND)
    return Trace(name=f"turns-{seed}", requests=tuple(_numbered(found[:requests])), chunk_tokens=CHUNK_TOKENS)


def _turns(source: Random, names: Iterator[int], start: float, system: list[int]) -> Iterator[TraceRequest]:
    """One conversation's requests."""
    chunks, said, now = list(system), len(system) * CHUNK_TOKENS, start
    while True:
        document = source.lognormvariate(9.4, 0.8) if source.random() < 1 / 12 else 0.0
        prompt = said + 1 + int(source.lognormvariate(6.2, 0.9) + document)
        answer = 1 + int(source.lognormvariate(5.4, 0.8))
        if prompt > _LONGEST_PROMPT:
            return
        whole, part = divmod(prompt, CHUNK_TOKENS)
        chunks = [*chunks, *(next(names) for _ in range(whole - len(chunks)))]
        named = (*chunks, next(names)) if part else tuple(chunks)  # what is not full yet is nobody else's
        yield TraceRequest(id=0, arrival=now, prompt_tokens=prompt, output_tokens=answer, chunks=named)
        if source.random() < 1 / _MEAN_TURNS:
            return
        said = prompt + answer
        now += 0.02 * answer + source.expovariate(1 / _THINK_SECONDS)


def _numbered(requests: list[TraceRequest]) -> Iterator[TraceRequest]:
    for position, request in enumerate(requests):
        yield TraceRequest(
            id=position,
            arrival=request.arrival,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            chunks=request.chunks,
        )
