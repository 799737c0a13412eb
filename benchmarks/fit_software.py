"""Finds the constants of `coxswain_scheduler.costs.software` on measured deployments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.deployments import Deployment, predicted
from coxswain_scheduler.costs.software import Software

TUNED_ON = {"vllm": "qwen3-32b", "sglang": "qwen3-32b", "trtllm": "llama-3-8b"}
"""The model on whose aggregated H100 rows a software is tuned; all other rows are only reported on. For TensorRT-LLM
the halves were exchanged after a first look: its Qwen3-32B is slower than its two Llamas would have it."""
_CHOICES = {
    "matmul": (1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5),
    "attention": (1.0, 1.15, 1.3, 1.5, 1.75, 2.0),
    "step_seconds": (0.0, 0.5e-3, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3),
    "layer_seconds": (0.0, 5e-6, 10e-6, 15e-6, 20e-6, 30e-6, 40e-6),
    "row_seconds": (0.0, 5e-6, 10e-6, 20e-6, 40e-6, 80e-6),
}
_TTFT_WEIGHT = 0.5
"""It depends on how clients arrive, which the rows do not say, more than on the engine."""


def tunes(row: Deployment) -> bool:
    """Whether constants are tuned on `row`."""
    return row.model == TUNED_ON[row.software] and row.accelerator == "h100" and not row.prefill_workers


def fitted(name: str, rows: Sequence[Deployment]) -> Software:
    """Coordinate descent over the choices, from bare hardware, on the mean absolute log error."""
    rows = [row for row in rows if row.software == name and tunes(row)]
    best = Software(name=name)
    least = _error(best, rows)
    improved = True
    while improved:
        improved = False
        for field, values in _CHOICES.items():
            for value in values:
                change: dict[str, Any] = {field: value}
                tried = replace(best, **change)
                error = _error(tried, rows) if tried != best else least
                if error < least - 1e-6:
                    best, least, improved = tried, error, True
    return best


def _error(software: Software, rows: Sequence[Deployment]) -> float:
    total = 0.0
    for row in rows:
        found = predicted(row, software)
        total += abs(math.log(found.tpot / row.measured.tpot))
        total += _TTFT_WEIGHT * abs(math.log(found.ttft / row.measured.ttft))
    return total / len(rows)
