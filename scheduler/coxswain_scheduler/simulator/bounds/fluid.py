"""The work of a trace as a fluid: how many seconds of engines it takes when nothing is ever idle or half full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.simulator.bounds.feasibility import prefill_seconds
from coxswain_scheduler.simulator.setup import EngineSpec
from coxswain_scheduler.simulator.trace import Trace


@dataclass(frozen=True, slots=True)
class FluidWork:
    """Seconds of one engine."""

    prefill_seconds: float
    """Each prompt on its own, less what is cached, in full steps."""
    decode_seconds: float
    """Each output token at the price per token of context that a decode step with full KV memory has."""

    @property
    def seconds(self) -> float:
        """Both."""
        return self.prefill_seconds + self.decode_seconds

    def max_speedup(self, *, engines: int, span_seconds: float) -> float:
        """How much faster than recorded the requests may come before the engines fall behind."""
        return engines * span_seconds / self.seconds

    def prefill_engines(self, engines: int) -> float:
        """How many of the engines should prefill, for both kinds of work to take as long."""
        return engines * self.prefill_seconds / self.seconds


def fluid_work(trace: Trace, engine: EngineSpec, *, cached: Sequence[int], chosen: Sequence[bool]) -> FluidWork:
    """The work of the chosen requests, on engines of one kind, when `cached` tokens of each prompt are at hand."""
    capacity = engine.total_blocks * engine.block_size
    full = Work(decodes=engine.max_num_seqs, context=capacity)
    per_token = engine.timing.seconds(full) / capacity
    prefill = decode = 0.0
    for request, known, counts in zip(trace.requests, cached, chosen, strict=True):
        if counts:
            prefill += prefill_seconds(
                engine.timing, prompt_tokens=request.prompt_tokens, cached=known, step_tokens=engine.step_tokens
            )
            decode += per_token * context_tokens(request.prompt_tokens, request.output_tokens)
    return FluidWork(prefill, decode)


def context_tokens(prompt_tokens: int, steps: int) -> int:
    """KV tokens that `steps` decode steps attend to, from the prompt on, one more in each."""
    return steps * prompt_tokens + steps * (steps - 1) // 2
