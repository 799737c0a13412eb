"""Requests that could meet the objective for the first token if they were alone in the world."""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_scheduler.costs.timing import Timing, Work
from coxswain_scheduler.simulator.bounds.prefixes import infinite_cache
from coxswain_scheduler.simulator.setup import EngineSpec
from coxswain_scheduler.simulator.trace import Trace


def prefill_seconds(timing: Timing, *, prompt_tokens: int, cached: int, step_tokens: int) -> float:
    """Seconds to compute a prompt beyond its `cached` tokens on an idle engine, `step_tokens` at a time."""
    seconds, start = 0.0, cached
    while start < prompt_tokens:
        count = min(step_tokens, prompt_tokens - start)
        pairs = count * start + count * (count + 1) // 2
        seconds += timing.seconds(Work(prefill_tokens=count, prefill_pairs=pairs))
        start += count
    return seconds


def feasible(
    trace: Trace, engines: Sequence[EngineSpec], *, ttft: float, cached: Sequence[int] | None = None
) -> list[bool]:
    """For each request, whether the fastest engine, idle, brings its first token within `ttft` seconds.

    `cached` is what of each prompt need not be computed; by default all that any earlier request has had, as if there
    were one cache of unlimited size.
    """
    kinds = tuple(dict.fromkeys(engines))
    cached = infinite_cache(trace, block_size=kinds[0].block_size) if cached is None else cached
    return [
        any(
            prefill_seconds(
                kind.timing, prompt_tokens=request.prompt_tokens, cached=known, step_tokens=kind.step_tokens
            )
            <= ttft
            for kind in kinds
        )
        for request, known in zip(trace.requests, cached, strict=True)
    ]
