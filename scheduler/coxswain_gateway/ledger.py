"""What is noted of generations: how many there are, how long each took, how they ended."""

from __future__ import annotations

from collections.abc import Callable

from coxswain_gateway.generation import Generation
from coxswain_gateway.recorder import Recorder
from coxswain_gateway.statistics import Statistics
from coxswain_gateway.traffic import TrafficLog


class Ledger:
    """Told of each generation when it is accepted, when tokens of it come, and once when it ends.

    What it is told goes into the generation's own times, the statistics, the traffic, and the recording if there is
    one. Times are monotonic seconds.
    """

    def __init__(self, statistics: Statistics, *, clock: Callable[[], float], recorder: Recorder | None = None) -> None:
        self._statistics = statistics
        self._clock = clock
        self._recorder = recorder
        self.traffic = TrafficLog()
        self.live = 0
        """Generations that have not ended."""
        self.waiting = 0
        """Of these, without a first token."""

    def accepted(self, generation: Generation) -> None:
        """A new one."""
        self.live += 1
        self.waiting += 1
        self._statistics.accepted += 1
        self._statistics.prompt_tokens += len(generation.log.prompt)
        self.traffic.started(generation)

    def progressed(self, generation: Generation, fresh: int, now: float, *, first: bool) -> None:
        """`fresh` tokens of it came at `now`, the `first` ones of an attempt or not."""
        self._statistics.output_tokens += fresh
        if first:
            self._began(generation, now)
        else:
            self._statistics.inter_token.record(now - generation.last_token_at)
        generation.last_token_at = now

    def ended(self, generation: Generation, outcome: str) -> None:
        """It is over."""
        self.live -= 1
        if generation.first_token_at is None:
            self.waiting -= 1
        now = self._clock()
        self._statistics.ended[outcome] += 1
        self._statistics.duration.record(now - generation.created)
        self.traffic.ended(generation, outcome, now)
        if self._recorder is not None:
            self._recorder.request(generation, outcome)

    def _began(self, generation: Generation, now: float) -> None:
        if generation.interrupted_at is not None:
            self._statistics.gap.record(now - generation.interrupted_at)
            generation.interrupted_at = None
        if generation.first_token_at is None:
            generation.first_token_at = now
            self.waiting -= 1
            self._statistics.ttft.record(now - generation.created)
            self._statistics.cached_tokens += generation.log.cached or 0
