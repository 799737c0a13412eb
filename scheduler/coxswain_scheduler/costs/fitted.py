"""How long an engine step takes, learnt from the steps themselves.

A step's seconds are modelled as `scale·prior + floor + a·prefill tokens + b·decoding sequences + c·KV tokens`: a cost
model made from rooflines, where model and hardware are known, and what it is wrong by; or, without one, the roofline of
a transformer step with its constants left open (as in Vidur and Llumnix). The constants come from least squares of the
relative error over the recent steps, kept non-negative, and start from the prior or a guess, so that the first request
can be placed before the first step has run.
"""

from __future__ import annotations

from typing import Final

from coxswain_protocol.messages import StepEvent
from coxswain_scheduler.costs.timing import Timing, Work

_SIZE: Final = 5
_DECAY: Final = 0.998
"""Weight of a step against the next one's: half is forgotten after about 350 steps."""
_PRIOR_WEIGHT: Final = 0.1
"""The start counts like so much of a step for each constant: enough to hold those that the steps say nothing about."""
_USUAL = (1.0, 128.0, 8.0, 4096.0)
"""A usual step: brings constants of very different size to one scale."""
_GUESS = (0.8, 1.0, 0.2, 0.2)
"""Shares of the floor that a usual step's parts take, where nothing is known."""
_REFIT_AFTER: Final = 16
_SWEEPS: Final = 12
_LEAST_SECONDS: Final = 1e-6
"""A step takes that much whatever was learnt."""


class StepCost:
    """The cost of a step on one kind of engine, and a `Timing`: `observe` its steps, then ask for others.

    `prior` is what is known beforehand; without it, `floor_seconds` of the shortest step.
    """

    def __init__(self, *, floor_seconds: float = 0.0, prior: Timing | None = None) -> None:
        self._prior = prior
        self._scale = prior.seconds(Work(decodes=1, context=1)) if prior else floor_seconds or 0.02
        self._start = [1.0, 0.0, 0.0, 0.0, 0.0] if prior else [0.0, *_GUESS]
        self._weights = self._start.copy()
        self._gram = [[0.0] * _SIZE for _ in range(_SIZE)]
        self._moment = [0.0] * _SIZE
        self._unfitted = 0
        self._slope: float | None = None
        self.error = 0.0
        """Moving mean of |predicted - measured| / measured."""
        self.largest_prefill = 256
        """Prompt tokens that the engine has been seen to take in one step, at least."""

    def observe(self, event: StepEvent) -> None:
        """Learn from what an engine reported."""
        self.learn(_work(event.prefill_tokens, event.decode_sequences, event.context), event.seconds)

    def learn(self, work: Work, seconds: float) -> None:
        """Learn that a step of `work` took `seconds`."""
        if seconds <= 0 or not (work.prefill_tokens or work.decodes):
            return
        self.error += 0.02 * (abs(self.seconds(work) - seconds) / seconds - self.error)
        if work.prefill_tokens > self.largest_prefill:
            self.largest_prefill, self._slope = work.prefill_tokens, None
        self._accumulate([part / seconds for part in self._parts(work)])
        self._unfitted += 1
        if self._unfitted >= _REFIT_AFTER:
            self._fit()

    @property
    def line(self) -> tuple[float, float, float, float]:
        """Seconds of a step, of each prompt token, decoding sequence and KV token in it; what a prior adds not."""
        scales = (1.0, *_USUAL[1:])
        step, prompt, decode, context = (
            self._scale * weight / scale for weight, scale in zip(self._weights[1:], scales, strict=True)
        )
        return step + _LEAST_SECONDS, prompt, decode, context

    def predict(self, prefill_tokens: int, decode_sequences: int, context: int) -> float:
        """Seconds of one step, by what a `StepEvent` says: `context` is that of prompts and decodes together."""
        return self.seconds(_work(prefill_tokens, decode_sequences, context))

    def seconds(self, work: Work) -> float:
        """Seconds of one step."""
        prompt, pairs, decodes, context = work.amounts
        w, u = self._weights, _USUAL
        reach = context + pairs / prompt + (prompt - 1) / 2 if prompt else context
        line = w[1] + w[2] * prompt / u[1] + w[3] * decodes / u[2] + w[4] * reach / u[3]
        known = w[0] * self._prior.seconds(work) if self._prior else 0.0
        return _LEAST_SECONDS + known + self._scale * line

    def decode_seconds(self, decodes: int, context: int, steps: int) -> float:
        """See `Timing`."""
        if steps <= 0 or decodes <= 0:
            return 0.0
        middle = context + decodes * (steps - 1) / 2.0  # the line's mean over the run
        known = self._prior.decode_seconds(decodes, context, steps) if self._prior else 0.0
        return self._weights[0] * known + steps * (_LEAST_SECONDS + self._line(decodes, middle))

    def decode_steps(self, decodes: int, context: int, seconds: float) -> int:
        """See `Timing`. Newton's method. Raises ValueError where no sequence decodes."""
        if decodes <= 0:
            raise ValueError("decode_steps: needs a sequence that decodes")
        if seconds <= 0:
            return 0
        steps = 0
        for _ in range(8):
            step = self.seconds(Work(decodes=decodes, context=context + steps * decodes))
            change = int((seconds - self.decode_seconds(decodes, context, steps)) / step)
            steps = max(0, steps + change)
            if abs(change) <= 1:
                break
        while self.decode_seconds(decodes, context, steps) > seconds:
            steps -= 1
        while self.decode_seconds(decodes, context, steps + 1) <= seconds:
            steps += 1
        return steps

    def prefill(self, tokens: float, *, step_seconds: float) -> float:
        """Seconds until `tokens` prompt tokens are computed, in steps that take `step_seconds` without them."""
        if tokens <= 0:
            return 0.0
        if self._slope is None:
            self._slope = self._prefill_slope()
        return -(-tokens // self.largest_prefill) * step_seconds + self._slope * tokens

    def _prefill_slope(self) -> float:
        """Seconds that a prompt token adds to a step."""
        slope = self._scale * self._weights[2] / _USUAL[1]
        if self._prior:
            count = self.largest_prefill
            whole, none = (self._prior.seconds(_work(tokens, 1, tokens + 1)) for tokens in (count, 0))
            slope += self._weights[0] * (whole - none) / count
        return slope

    def _parts(self, work: Work) -> tuple[float, ...]:
        """What the weights multiply: each is about a usual step's seconds."""
        prompt, scale = work.prefill_tokens, self._scale
        reach = work.context + (work.prefill_pairs / prompt + (prompt - 1) / 2 if prompt else 0.0)
        known = self._prior.seconds(work) if self._prior else 0.0
        return known, scale, scale * prompt / _USUAL[1], scale * work.decodes / _USUAL[2], scale * reach / _USUAL[3]

    def _line(self, decodes: int, context: float) -> float:
        """A decode step's seconds beside the prior's."""
        w, u = self._weights, _USUAL
        return self._scale * (w[1] + w[3] * decodes / u[2] + w[4] * context / u[3])

    def _accumulate(self, row: list[float]) -> None:
        """One equation: the row times the weights is 1."""
        for i, x in enumerate(row):
            line = self._gram[i]
            self._moment[i] = _DECAY * self._moment[i] + x
            for j, y in enumerate(row):
                line[j] = _DECAY * line[j] + x * y

    def _fit(self) -> None:
        """Non-negative least squares by coordinate descent; starts from the last answer, so a few sweeps do."""
        self._unfitted, self._slope = 0, None
        weights = self._weights
        for _ in range(_SWEEPS):
            for i, line in enumerate(self._gram):
                rest = sum(line[j] * weights[j] for j in range(_SIZE) if j != i)
                pulled = self._moment[i] - rest + _PRIOR_WEIGHT * self._start[i]
                weights[i] = max(0.0, pulled / (line[i] + _PRIOR_WEIGHT))


def _work(prefill_tokens: int, decodes: int, context: int) -> Work:
    """The work behind an engine's report, as if its prompt tokens were of one sequence: the report does not say.

    Without decodes the KV tokens tell where that sequence began; beside decodes it is taken to begin.
    """
    start = max(0, context - prefill_tokens) if prefill_tokens and not decodes else 0
    pairs = prefill_tokens * start + prefill_tokens * (prefill_tokens + 1) // 2
    return Work(prefill_tokens, pairs, decodes, max(0, context - start - prefill_tokens))
