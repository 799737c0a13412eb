"""How long an engine step takes, learnt from the steps themselves.

A step's seconds are modelled as `floor + a·prefill tokens + b·decoding sequences + c·context tokens`, which is the
roofline of a transformer step with its constants left open (as in Vidur and Llumnix): launching, arithmetic of the
prompt, arithmetic of a decode row, and reading the KV. The constants come from least squares over the recent steps,
kept non-negative, and start from a guess, so that the first request can be placed before the first step has run.
"""

from __future__ import annotations

from coxswain_protocol.messages import StepEvent

_SIZE = 4
_DECAY = 0.998
"""Weight of a step against the next one's: half is forgotten after about 350 steps."""
_PRIOR_WEIGHT = 4.0
"""The guess counts like this many measured steps for each constant, scaled to a usual step."""
_USUAL = (1.0, 128.0, 8.0, 4096.0)
"""A usual step: brings constants of very different size to one scale."""
_REFIT_AFTER = 16
_SWEEPS = 12


class StepCost:
    """The cost of a step on one kind of engine: `observe` its steps, then `predict` others."""

    def __init__(self, *, floor_seconds: float = 0.0) -> None:
        floor = floor_seconds or 0.02
        self._weights = [floor * share for share in (0.8, 1.0, 0.2, 0.2)]
        self._gram = [[_PRIOR_WEIGHT if i == j else 0.0 for j in range(_SIZE)] for i in range(_SIZE)]
        self._moment = [_PRIOR_WEIGHT * weight for weight in self._weights]
        self._unfitted = 0
        self.error = 0.0
        """Moving mean of |predicted - measured| / measured."""
        self.largest_prefill = 256
        """Prompt tokens that the engine has been seen to take in one step, at least."""

    def observe(self, event: StepEvent) -> None:
        """Learn from one step."""
        if event.seconds <= 0 or not (event.prefill_tokens or event.decode_sequences):
            return
        expected = self.predict(event.prefill_tokens, event.decode_sequences, event.context)
        self.error += 0.02 * (abs(expected - event.seconds) / event.seconds - self.error)
        self.largest_prefill = max(self.largest_prefill, event.prefill_tokens)
        self._accumulate(_row(event.prefill_tokens, event.decode_sequences, event.context), event.seconds)
        self._unfitted += 1
        if self._unfitted >= _REFIT_AFTER:
            self._fit()

    def predict(self, prefill_tokens: float, decode_sequences: float, context: float) -> float:
        """Seconds of one step."""
        w, u = self._weights, _USUAL
        return w[0] + w[1] * prefill_tokens / u[1] + w[2] * decode_sequences / u[2] + w[3] * context / u[3]

    def prefill(self, tokens: float, *, step_seconds: float) -> float:
        """Seconds until `tokens` prompt tokens are computed, in steps that take `step_seconds` without them."""
        if tokens <= 0:
            return 0.0
        return -(-tokens // self.largest_prefill) * step_seconds + self._weights[1] * tokens / _USUAL[1]

    def _accumulate(self, row: tuple[float, ...], seconds: float) -> None:
        for i, x in enumerate(row):
            line = self._gram[i]
            self._moment[i] = _DECAY * self._moment[i] + x * seconds
            for j, y in enumerate(row):
                line[j] = _DECAY * line[j] + x * y

    def _fit(self) -> None:
        """Non-negative least squares by coordinate descent; starts from the last answer, so a few sweeps do."""
        self._unfitted = 0
        for _ in range(_SWEEPS):
            for i, line in enumerate(self._gram):
                rest = sum(line[j] * self._weights[j] for j in range(_SIZE) if j != i)
                self._weights[i] = max(0.0, (self._moment[i] - rest) / line[i]) if line[i] > 1e-12 else 0.0


def _row(prefill_tokens: int, decode_sequences: int, context: int) -> tuple[float, ...]:
    return 1.0, prefill_tokens / _USUAL[1], decode_sequences / _USUAL[2], context / _USUAL[3]
