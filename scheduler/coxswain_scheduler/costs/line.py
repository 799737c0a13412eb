"""A step's time as a line over its work, fitted to many recorded steps at once.

The same terms as `StepCost`, which learns them step by step and forgets; here every step counts alike. Least squares of
the relative error, constants kept non-negative, and then scaled so that all steps together take as long as they did: a
step that was held up is not typical, but its time has passed all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coxswain_protocol.messages import StepEvent
from coxswain_scheduler.costs.decode_line import line_seconds, line_steps
from coxswain_scheduler.costs.timing import Work

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LineTiming:
    """A `Timing`: seconds of a step, of each prompt token, decoding sequence and KV token in it."""

    step: float
    prefill_token: float
    decode: float
    context_token: float

    def seconds(self, work: Work) -> float:
        """Seconds of one step."""
        prompt, pairs, decodes, context = work.amounts
        if not (prompt or decodes):
            return 0.0
        reach = context + (pairs / prompt + (prompt - 1) / 2 if prompt else 0.0)
        return self.step + self.prefill_token * prompt + self.decode * decodes + self.context_token * reach

    def decode_seconds(self, decodes: int, context: int, steps: int) -> float:
        """See `Timing`."""
        if decodes <= 0:
            return 0.0
        fixed = self.step + self.decode * decodes
        return line_seconds(fixed, self.context_token, decodes=decodes, context=context, steps=steps)

    def decode_steps(self, decodes: int, context: int, seconds: float) -> int:
        """See `Timing`. Raises ValueError where no sequence decodes."""
        fixed = self.step + self.decode * decodes
        return line_steps(fixed, self.context_token, decodes=decodes, context=context, seconds=seconds)


def fit_line(events: Sequence[StepEvent], *, between_seconds: float = 0.0) -> LineTiming:
    """The line through these steps, with `between_seconds` from each to the next.

    Raises:
        ValueError: None of the steps computed anything.
    """
    events = [event for event in events if event.seconds > 0 and (event.prefill_tokens or event.decode_sequences)]
    if not events:
        raise ValueError("no step computed anything")
    seconds = np.array([event.seconds for event in events])
    rows = np.array([(1.0, e.prefill_tokens, e.decode_sequences, e.context) for e in events], dtype=np.float64)
    constants = _not_negative(rows / seconds[:, None])
    constants *= seconds.sum() / float((rows @ constants).sum())
    step, *others = (float(value) for value in constants)
    return LineTiming(max(step + between_seconds, 1e-9), *others)


def _not_negative(rows: Array) -> Array:
    """Least squares of `rows @ x = 1`; a constant that would be negative is left out, the most negative first."""
    scale = np.maximum(rows.max(axis=0), 1e-30)
    used = [column for column in range(rows.shape[1]) if rows[:, column].any()]
    while True:
        found, *_ = np.linalg.lstsq(rows[:, used] / scale[used], np.ones(len(rows)), rcond=None)
        if len(used) == 1 or found.min() >= 0:
            break
        del used[int(found.argmin())]
    constants = np.zeros(rows.shape[1])
    constants[used] = found / scale[used]
    return constants
