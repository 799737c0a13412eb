"""How many engines to ask for now, so that the objectives hold when they are ready.

An engine asked for at `t` serves from `t + start-up`: what counts is the `Demand` then. Its forecast, raised by as much
as such forecasts have lately been too low (`Headroom`) or by as much as the engines there have been found too few
(`Feedback`), whichever is more, is the answer. Both correct the same thing, so they are not multiplied; a factor for
engines slower than their model is.

Most of the requests that may miss their objectives are spent on surges: a load that jumps within the start-up time can
be met by nobody who does not see it coming, and headroom for it all day costs more than it is worth.

Going down waits for a share of the start-up time, as a load that falls and rises within it is cheaper held.
"""

from __future__ import annotations

import math
from collections import deque

from coxswain_scheduler.autoscaling.capacity import (
    Capacity,
    EngineShape,
    decode_step,
    decoding,
    prefilling,
    serving,
    token_seconds,
)
from coxswain_scheduler.autoscaling.counts import Counts
from coxswain_scheduler.autoscaling.demand import Demand
from coxswain_scheduler.autoscaling.feedback import Feedback
from coxswain_scheduler.autoscaling.forecast import Headroom
from coxswain_scheduler.autoscaling.goals import Decision, Goals
from coxswain_scheduler.autoscaling.observation import Observation

_HOLD = 0.5
"""A larger load that was expected counts for this share of the start-up time."""
_WARM_UP_SECONDS = 180.0
"""So long it only adds to the engines that it found: it does not know how long answers get."""
_AFTERMATH_SECONDS = 900.0
"""So long after engines were too few for the demand, missed objectives do not say that the forecast is wrong."""
_TINY = 1e-9
_EXCESS_SHARE = 0.12
"""Of the requests that may miss their objectives: what the headroom leaves to come on top of forecasts. The rest is for
surges that no headroom worth its price holds."""


class Autoscaler:
    """`observe` what happened, then `decide`. Pure: the same observations always give the same decisions."""

    def __init__(self, shape: EngineShape, goals: Goals) -> None:
        self.shape = shape
        self.goals = goals
        self.decision: Decision | None = None
        """The last one."""
        self._demand = Demand()
        self._headroom = Headroom(excess=(1 - goals.attainment) * _EXCESS_SHARE)
        self._feedback = Feedback()
        self._now = 0.0
        self._found: tuple[float, Counts] | None = None
        self._busy_at = 0.0
        self._short_at = -_AFTERMATH_SECONDS
        self._capacity = self._per_engine()
        self._wanted: deque[tuple[float, float]] = deque()
        """(when, engines' worth of load that was forecast), as far back as `_held` looks."""
        self._due: deque[tuple[float, float]] = deque()
        """The same, by when an engine asked for then is ready."""

    def observe(self, seen: Observation) -> None:
        """Learn. Observations come in order of `now`."""
        seconds = seen.now - self._now
        self._now = seen.now
        self._found = self._found or (seen.now, seen.ready)
        self._demand.observe(seen, seconds=seconds, token_seconds=self._capacity.token_seconds)
        if len(seen.open) or seen.arrivals or len(seen.ended):
            self._busy_at = seen.now
        self._capacity = self._per_engine()
        self._settle()
        self._feel(seen, seconds)

    def decide(self, now: float) -> Decision:
        """The counts to have. Call it after `observe`, with the same `now` or a later one."""
        goals, feedback, capacity = self.goals, self._feedback, self._capacity
        forecast = self._demand.ahead(capacity.token_seconds, startup_seconds=goals.startup_seconds)
        load = self._held(now, forecast / max(_TINY, capacity.sequences))
        self._due.append((now + goals.startup_seconds, load))
        raise_by = max(self._headroom.factor, 1 + feedback.pressure)
        counts, rule = self._ruled(now, self._counts(load * raise_by * feedback.slowness))
        self.decision = Decision(
            counts=counts,
            now=now,
            sequences=self._demand.current(capacity.token_seconds),
            forecast=forecast,
            headroom=self._headroom.factor,
            slowness=feedback.slowness,
            pressure=feedback.pressure,
            capacity=capacity,
            rule=rule,
        )
        return self.decision

    def wanted(self, now: float) -> int:
        """Engines in all, by `decide`."""
        return self.decide(now).counts.total

    def explain(self) -> str:
        """The last decision, in one line."""
        return self.decision.explain() if self.decision else "nothing decided yet"

    # The load

    def _per_engine(self) -> Capacity:
        goals, mix = self.goals, self._demand.mix
        if goals.split:
            return decoding(self.shape, mix, goals.objectives)
        return serving(self.shape, mix, goals.objectives, attainment=goals.attainment)

    def _held(self, now: float, load: float) -> float:
        """The largest load forecast in the last `_HOLD` of the start-up time."""
        self._wanted.append((now, load))
        while self._wanted[0][0] < now - _HOLD * self.goals.startup_seconds:
            self._wanted.popleft()
        return max(load for _, load in self._wanted)

    # Corrections

    def _settle(self) -> None:
        """Compare what was forecast for now with what is."""
        now, forecast = self._now, 0.0
        while self._due and self._due[0][0] <= now:
            forecast = self._due.popleft()[1]
        began = self._found[0] if self._found else now
        if now - began < _WARM_UP_SECONDS + self.goals.startup_seconds:
            return
        current = max((load for _, load in self._wanted), default=0.0)
        load = self._demand.current(self._capacity.token_seconds) / max(_TINY, self._capacity.sequences)
        self._headroom.settle(now, load=load * self.shape.usable, forecast=min(forecast, current))

    def _feel(self, seen: Observation, seconds: float) -> None:
        goals, mix = self.goals, self._demand.mix
        engines = seen.ready.serve + seen.ready.decode
        if engines and self._demand.live:
            each = max(1, round(self._demand.live / engines))
            model = decode_step(self.shape, mix, each) if goals.split else token_seconds(self.shape, mix, each)
            self._feedback.pace(measured=self._demand.rates.token_seconds, model=model, seconds=seconds)
        sequences = self._demand.current(self._capacity.token_seconds)
        if sequences > engines * self._capacity.sequences:
            self._short_at = seen.now
        elif seen.now - self._short_at > _AFTERMATH_SECONDS:
            self._feedback.missed(seen, allowed=1 - goals.attainment, seconds=seconds)

    # Counts

    def _counts(self, load: float) -> Counts:
        """For so many engines' worth of load."""
        goals = self.goals
        engines = math.ceil(load - _TINY)
        if not goals.split:
            return Counts(serve=min(goals.maximum, max(goals.minimum, engines)))
        prompts = load * self._capacity.sequences / self._capacity.token_seconds / max(1.0, self._demand.lengths.mean)
        rate = prefilling(self.shape, self._demand.mix, goals.objectives, attainment=goals.attainment)
        prefill = math.ceil(prompts / rate - _TINY) if rate > 0 else 1
        least = Counts(prefill=1, decode=max(1, goals.minimum - 1))
        return Counts(prefill=prefill, decode=engines).at_least(least).within(goals.maximum)

    def _ruled(self, now: float, counts: Counts) -> tuple[Counts, str]:
        after = self.goals.idle_after_seconds
        if after is not None and now - self._busy_at >= after:
            return Counts(), f"idle for {after:.0f} s"
        began, found = self._found or (now, Counts())
        if now - began < _WARM_UP_SECONDS and counts.at_least(found) != counts:
            return counts.at_least(found).within(self.goals.maximum), "keeping what was found while learning"
        if self._wanted[-1][1] < max(load for _, load in self._wanted):
            return counts, f"as forecast within the last {_HOLD * self.goals.startup_seconds:.0f} s"
        return counts, "as forecast"
