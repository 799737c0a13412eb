"""Runs of decode steps where a step's seconds are a line over its KV tokens, in closed form."""

from __future__ import annotations

import math


def line_seconds(fixed: float, each: float, *, decodes: int, context: int, steps: int) -> float:
    """Seconds of `steps` steps of `fixed + each · KV tokens`: `context` first, `decodes` more in each that follows."""
    return steps * (fixed + each * (context + decodes * (steps - 1) / 2.0)) if steps > 0 else 0.0


def line_steps(fixed: float, each: float, *, decodes: int, context: int, seconds: float) -> int:
    """The most such steps whose `line_seconds` are at most `seconds`. `fixed` must be above zero.

    Raises:
        ValueError: No sequence decodes, so that any number of steps would.
    """
    if decodes <= 0:
        raise ValueError("decode_steps: needs a sequence that decodes")
    if seconds <= 0:
        return 0
    half = each * decodes / 2.0
    first = fixed + each * context - half
    steps = int(2.0 * seconds / (first + math.sqrt(first * first + 4.0 * half * seconds)))
    while line_seconds(fixed, each, decodes=decodes, context=context, steps=steps) > seconds:
        steps -= 1
    while line_seconds(fixed, each, decodes=decodes, context=context, steps=steps + 1) <= seconds:
        steps += 1
    return steps
