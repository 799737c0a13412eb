"""What a prompt costs an engine that does nothing else: all that a choice among engines asks of a cost model."""

from __future__ import annotations

from typing import Protocol

from coxswain_scheduler.costs.timing import Timing, Work


class PrefillCost(Protocol):
    """What computing a prompt takes on one kind of engine. Never less for fewer cached tokens."""

    def prefill_work(self, prompt: int, cached: int) -> tuple[float, float]:
        """(seconds, steps) to compute all but the first `cached` of `prompt` tokens with nothing beside them."""


class TimedPrefill:
    """The prefill cost of engines with one cost model, that compute so many tokens in a step."""

    def __init__(self, timing: Timing, *, step_tokens: int) -> None:
        self._timing = timing
        self._step_tokens = step_tokens

    def prefill_work(self, prompt: int, cached: int) -> tuple[float, float]:
        """See `PrefillCost`: the steps one by one, as each attends to what those before computed."""
        starts = range(cached, prompt, self._step_tokens)
        return sum(self._step(start, min(prompt, start + self._step_tokens)) for start in starts), len(starts)

    def _step(self, start: int, end: int) -> float:
        count = end - start
        pairs = count * start + count * (count + 1) // 2
        return self._timing.seconds(Work(prefill_tokens=count, prefill_pairs=pairs))
