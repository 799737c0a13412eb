"""Timing by two polynomials, as the mocked engine of NVIDIA Dynamo has it.

A step lasts `prefill(n) + decode(p)`: `n` the prompt tokens computed in it, `p` the share of all KV tokens that the
decoding sequences hold, at most 1 (a prefix that several share counts for each). Prefill is `a·n² + b·n + c` and
nothing without prompt tokens; decode is `a·p² + b·p + c`, at least one millisecond, and nothing where no sequence
decodes. The decode term knows no batch size: that is the model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from coxswain_scheduler.costs.timing import Work

_FLOOR: Final = 0.001
"""Seconds that a decode term takes at least."""
_NEWTON_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Quadratic:
    """`a·x² + b·x + c`, in seconds."""

    a: float
    b: float
    c: float

    def __call__(self, x: float) -> float:
        """The value at `x`."""
        return (self.a * x + self.b) * x + self.c


@dataclass(frozen=True, slots=True)
class PolynomialTiming:
    """A `Timing` of two polynomials: `prefill` over tokens, `decode` over the share of `total_tokens` in use."""

    prefill: Quadratic
    decode: Quadratic
    total_tokens: int

    @classmethod
    def from_mapping(cls, document: Mapping[str, object]) -> PolynomialTiming:
        """Read the parsed JSON of a timing file, whose times are milliseconds.

        It needs `prefill` and `decode`, each with `a`, `b` and `c`, and `num_gpu_blocks` and `block_size`.

        Raises:
            ValueError: A field is missing or wrong; the message begins with its name.
        """
        prefill = _quadratic(document, "prefill")
        for name in ("a", "b", "c"):
            if getattr(prefill, name) < 0:
                raise ValueError(f"prefill.{name}: must not be negative, or more tokens could take less time")
        total = whole(document, "num_gpu_blocks") * whole(document, "block_size")
        return cls(prefill, _quadratic(document, "decode"), total)

    def seconds(self, work: Work) -> float:
        """Seconds of one step."""
        prefill = self.prefill(work.prefill_tokens) if work.prefill_tokens else 0.0
        decode = max(_FLOOR, self.decode(min(1.0, work.context / self.total_tokens))) if work.decodes else 0.0
        return prefill + decode

    def decode_seconds(self, decodes: int, context: int, steps: int) -> float:
        """Seconds of `steps` decode steps: `context` tokens in the first, `decodes` more in each that follows."""
        if decodes <= 0 or steps <= 0:
            return 0.0
        growing = self._growing(decodes, context)
        a, b, c = self._over_steps(decodes, context)
        if steps <= growing:
            return _run(a, b, c, steps)
        return _run(a, b, c, growing) + (steps - growing) * self._full

    def decode_steps(self, decodes: int, context: int, seconds: float) -> int:
        """The most such steps that end within `seconds`.

        Raises:
            ValueError: No sequence decodes, so that any number of steps would.
        """
        if decodes <= 0:
            raise ValueError("decode_steps: needs a sequence that decodes")
        if seconds <= 0:
            return 0
        growing = self._growing(decodes, context)
        a, b, c = self._over_steps(decodes, context)
        steps = _most(a, b, c, seconds)
        if steps < growing:
            return steps
        before = _run(a, b, c, growing)
        more = int((seconds - before) / self._full) + 1
        while before + more * self._full > seconds:  # at most twice: the quotient is rounded
            more -= 1
        return growing + more

    @property
    def _full(self) -> float:
        """Seconds of a decode step in which the sequences hold all KV tokens, or more."""
        return max(_FLOOR, self.decode(1.0))

    def _growing(self, decodes: int, context: int) -> int:
        """Steps before that."""
        return max(0, -((context - self.total_tokens) // decodes))

    def _over_steps(self, decodes: int, context: int) -> tuple[float, float, float]:
        """The decode polynomial as one of the step's number."""
        start, growth = context / self.total_tokens, decodes / self.total_tokens
        a, b, c = self.decode.a, self.decode.b, self.decode.c
        return a * growth * growth, (2.0 * a * start + b) * growth, (a * start + b) * start + c


def _run(a: float, b: float, c: float, steps: int) -> float:
    """`a·i² + b·i + c`, but at least the floor, summed over i from 0 to `steps` - 1."""
    last = steps - 1
    if a <= 0 and c >= _FLOOR and (a * last + b) * last + c >= _FLOOR:  # concave: above the floor throughout
        return _total(a, b, c, steps)
    excess = c - _FLOOR
    spans = _positive_spans(a, b, excess, steps)
    return steps * _FLOOR + sum(_total(a, b, excess, end) - _total(a, b, excess, start) for start, end in spans)


def _most(a: float, b: float, c: float, seconds: float) -> int:
    """The most steps that end within `seconds`."""
    guess = _newton(a, b, c, seconds)
    for steps in (guess, guess - 1):  # exact, but for rounding and for steps at the floor
        if _run(a, b, c, steps) <= seconds:
            if _run(a, b, c, steps + 1) > seconds:
                return steps
            break
    return _bisection(a, b, c, seconds)


def _newton(a: float, b: float, c: float, seconds: float) -> int:
    """How many steps take `seconds`, were there no floor."""
    steps = seconds / max(c, _FLOOR)
    for _ in range(_NEWTON_ROUNDS):
        change = (seconds - _total(a, b, c, steps)) / max((a * steps + b) * steps + c, _FLOOR)
        steps += change
        if -1e-3 < change < 1e-3:
            break
    return max(0, int(steps + 1e-9))


def _bisection(a: float, b: float, c: float, seconds: float) -> int:
    low, high = 0, int(seconds / _FLOOR) + 2
    while high - low > 1:
        middle = (low + high) // 2
        if _run(a, b, c, middle) <= seconds:
            low = middle
        else:
            high = middle
    return low


def _total(a: float, b: float, c: float, count: float) -> float:
    """`a·i² + b·i + c`, summed over i from 0 to `count` - 1."""
    return count * ((a * (2.0 * count - 1.0) / 3.0 + b) * (count - 1.0) / 2.0 + c)


def _positive_spans(a: float, b: float, c: float, count: int) -> Iterator[tuple[int, int]]:
    """Where `a·i² + b·i + c` is above zero, i from 0 to `count` - 1, as half-open spans of whole numbers."""
    edges = sorted({0, count, *(min(max(math.ceil(root), 0), count) for root in _roots(a, b, c))})
    for start, end in itertools.pairwise(edges):
        middle = (start + end - 1) / 2
        if (a * middle + b) * middle + c > 0:
            yield start, end


def _roots(a: float, b: float, c: float) -> tuple[float, ...]:
    """The real roots, found without cancellation; those too large to be a step's number are left out."""
    spread = b * b - 4.0 * a * c
    if spread < 0:
        return ()
    far = -(b + math.copysign(math.sqrt(spread), b)) / 2.0
    pairs = ((far, a), (c, far))
    return tuple(above / below for above, below in pairs if abs(above) < abs(below) * 1e15)


def _quadratic(document: Mapping[str, object], name: str) -> Quadratic:
    part = document.get(name)
    if not isinstance(part, Mapping):
        raise ValueError(f"{name}: expected an object with a, b and c, got {part!r}")  # noqa: TRY004, a wrong file is a wrong value
    a, b, c = (_number(part.get(key), f"{name}.{key}") / 1000.0 for key in ("a", "b", "c"))
    return Quadratic(a, b, c)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return float(value)


def whole(document: Mapping[str, object], name: str) -> int:
    """The positive whole number in field `name`.

    Raises:
        ValueError: It is none; the message begins with the field's name.
    """
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: expected a positive whole number, got {value!r}")
    return value
