"""How many engines to ask for now, so that the objectives hold when they are ready.

An engine asked for at `t` serves from `t + start-up`: what counts is the load then. It is forecast from the flow:
the answers under way, thinned by the chance that each still runs (`Lengths`), and the requests that will have come in
at the present rate. That forecast, raised by as much as such forecasts have lately been too low (`Headroom`), is the
floor. Feedback comes on top: queues, missed objectives, and engines that are slower than their cost model.

Going down waits. An engine is worth stopping if it stays unneeded for longer than its start-up takes, and a rule that
cannot see the future does best to keep it for just as long (ski rental): the answer is the largest count of the last
start-up time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coxswain_scheduler.autoscaling.capacity import (
    Capacity,
    EngineShape,
    Mix,
    decode_step,
    decoding,
    prefilling,
    serving,
    token_seconds,
)
from coxswain_scheduler.autoscaling.counts import Counts
from coxswain_scheduler.autoscaling.forecast import Headroom
from coxswain_scheduler.autoscaling.lengths import Lengths
from coxswain_scheduler.autoscaling.observation import Observation
from coxswain_scheduler.autoscaling.rates import Rates
from coxswain_scheduler.policies.interface import Objectives

_POINTS = 5
"""Moments between now and the end of the start-up time at which the load is forecast."""
_SLOWNESS_GAIN = 0.05
_SLOWEST = 1.5
_PRESSURE_STEP = 0.05
_PRESSURE_DECAY = 0.95
_PRESSURE_MOST = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What the user asked for, and how this autoscaler goes about it."""

    objectives: Objectives
    attainment: float = 0.99
    startup_seconds: float = 180.0
    split: bool = False
    """Separate engines for prefill and decode."""
    minimum: int = 1
    maximum: int = 1024
    idle_after_seconds: float | None = None
    """No engine at all after so long without a request; None never goes to zero."""
    hold_seconds: float | None = None
    """Engines are kept for so long after they were last needed; None for the start-up time."""
    excess: float = 0.005
    half_life: float = 7200.0
    peak: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """Counts to have, and why."""

    counts: Counts
    now: float
    live: float
    forecast: float
    headroom: float
    slowness: float
    per_engine: Capacity
    rule: str

    def explain(self) -> str:
        """One line."""
        return (
            f"{self.now:.0f} s: {self.counts}: {self.live:.0f} sequences now, {self.forecast:.0f} forecast"
            f" x {self.headroom:.2f} headroom, {self.per_engine.sequences} per engine at"
            f" {1000 * self.per_engine.token_seconds:.1f} ms a token (engines x {self.slowness:.2f} of the model);"
            f" {self.rule}"
        )


class Autoscaler:
    """`observe` what happened, then `decide`. Pure: the same observations always give the same decisions."""

    def __init__(self, shape: EngineShape, goals: Goals) -> None:
        self.shape = shape
        self.goals = goals
        self._lengths = Lengths()
        self._rates = Rates()
        self._headroom = Headroom(
            excess=goals.excess, half_life_seconds=goals.half_life, start=1.2, most=2.5
        )
        self._asked: deque[tuple[float, float]] = deque()
        self._due: deque[tuple[float, float]] = deque()
        self._seen: Observation | None = None
        self.decision: Decision | None = None
        self._busy_at = 0.0
        self._live = 0.0
        self._capacity = self._per_engine(self._mix())
        self._slowness = 1.0
        self._pressure = 0.0

    def observe(self, seen: Observation) -> None:
        """Learn. Observations come in order of `now`."""
        seconds = seen.now - self._seen.now if self._seen else 0.0
        self._lengths.observe(live=seen.live, ended=seen.ended, seconds=seconds)
        self._rates.observe(seen, seconds=seconds)
        self._seen = seen
        if seen.live or seen.waiting or seen.arrivals:
            self._busy_at = seen.now
        mix = self._mix()
        self._capacity = self._per_engine(mix)
        self._live = self._load(seen)
        self._settle(seen.now)
        self._feel(seen, mix)

    def decide(self, now: float) -> Decision:
        """The counts to have. Call it after `observe`, with the same `now` or a later one."""
        ahead = self._ahead()
        each = max(1e-9, self._capacity.sequences)
        most = float(ahead.max() if self.goals.peak else ahead[-1]) / each
        held = self._held(now, most)
        self._due.append((now + self.goals.startup_seconds, held))
        raised = held * self._headroom.factor * self._slowness * (1 + self._pressure)
        counts = self._counts(raised)
        rule = "as forecast" if held <= most else "held"
        if self._idle(now):
            counts, rule = Counts(), f"idle for {self.goals.idle_after_seconds:.0f} s"
        return Decision(counts, now, self._live, most * each, self._headroom.factor, self._slowness, self._capacity, rule)

    def wanted(self, now: float) -> int:
        """Engines in all, by `decide`."""
        self.decision = self.decide(now)
        return self.decision.counts.total

    def _mix(self) -> Mix:
        rates, lengths = self._rates, self._lengths
        context = rates.context(rates.prompt_tokens + lengths.mean_age)
        return Mix(context, lengths.mean, rates.prompt_tokens, rates.prompt_pairs)

    def _per_engine(self, mix: Mix) -> Capacity:
        goals = self.goals
        if goals.split:
            return decoding(self.shape, mix, goals.objectives)
        return serving(self.shape, mix, goals.objectives, attainment=goals.attainment)

    def _load(self, seen: Observation) -> float:
        """Sequences in flight as they would be on engines at capacity: the faster they go now, the more."""
        at_capacity = self._rates.tokens * self._capacity.token_seconds
        return max(float(len(seen.live)), at_capacity) + seen.waiting

    def _ahead(self) -> npt.NDArray[np.float64]:
        """Sequences in flight from now to the end of the start-up time."""
        seen, lengths, token = self._seen, self._lengths, self._capacity.token_seconds
        live = np.asarray(seen.live if seen else (), dtype=np.float64)
        waiting = seen.waiting if seen else 0
        scale = (self._live - waiting) / max(1, len(live))
        result = []
        for seconds in np.linspace(0.0, self.goals.startup_seconds, _POINTS):
            staying = scale * float(lengths.staying(live, seconds / token).sum())
            queued = waiting * float(lengths.survival(np.array([seconds / token]))[0])
            result.append(staying + queued + self._rates.arrivals * lengths.young(seconds / token) * token)
        return np.array(result)

    def _counts(self, load: float) -> Counts:
        """Engines for so many sequences in flight."""
        goals = self.goals
        engines = math.ceil(load)
        sequences = load * self._capacity.sequences
        if not goals.split:
            return Counts(serve=min(goals.maximum, max(goals.minimum, engines)))
        prompts = sequences / self._capacity.token_seconds / max(1.0, self._lengths.mean)
        rate = prefilling(self.shape, self._mix(), goals.objectives, attainment=goals.attainment)
        prefill = max(1, math.ceil(prompts / rate)) if rate > 0 else 1
        return Counts(prefill=prefill, decode=max(1, engines)).within(goals.maximum)

    def _held(self, now: float, load: float) -> float:
        """The largest load wanted in the last start-up time, so that going down waits."""
        hold = self.goals.startup_seconds if self.goals.hold_seconds is None else self.goals.hold_seconds
        self._asked.append((now, load))
        while self._asked[0][0] < now - hold:
            self._asked.popleft()
        return max(load for _, load in self._asked)

    def _settle(self, now: float) -> None:
        forecast = 0.0
        while self._due and self._due[0][0] <= now:
            forecast = self._due.popleft()[1]
        current = max((load for _, load in self._asked), default=0.0)
        self._headroom.settle(now, load=self._live / max(1e-9, self._capacity.sequences), forecast=min(forecast, current))

    def _idle(self, now: float) -> bool:
        after = self.goals.idle_after_seconds
        return after is not None and now - self._busy_at >= after

    def _feel(self, seen: Observation, mix: Mix) -> None:
        """Feedback: are engines slower than their model, and do requests miss their objectives under load?"""
        engines = seen.ready.serve + seen.ready.decode
        measured = self._rates.token_seconds
        if not engines or not seen.live or measured <= 0:
            return
        each = max(1, round(len(seen.live) / engines))
        model = decode_step(self.shape, mix, each) if self.goals.split else token_seconds(self.shape, mix, each)
        self._slowness += _SLOWNESS_GAIN * (min(_SLOWEST, max(1.0, measured / model)) - self._slowness)
        full = self._live > 0.8 * engines * self._capacity.sequences
        late = seen.oldest_wait > self.goals.objectives.ttft / 2
        missed = seen.judged > 0 and seen.met < self.goals.attainment * seen.judged
        grown = self._pressure + _PRESSURE_STEP if late or (missed and full) else self._pressure * _PRESSURE_DECAY
        self._pressure = min(_PRESSURE_MOST, grown)
