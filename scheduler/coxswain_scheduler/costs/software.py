"""What serving software adds to the hardware's times, fitted by `benchmarks/cost_models.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """One serving software; seconds are added, factors multiply."""

    name: str
    matmul: float = 1.0
    """Matrix products take so many times what the kernel tables say (at least 1)."""
    attention: float = 1.0
    """So does attention."""
    step_seconds: float = 0.0
    """Each step: scheduling, sampling, launching."""
    layer_seconds: float = 0.0
    """Each layer of a step: small kernels and gaps between kernels."""
    row_seconds: float = 0.0
    """Each sequence of a step: preparing its inputs, sampling, detokenising."""


_SOFTWARE = (
    Software(name="vllm", matmul=1.15, step_seconds=1e-3, row_seconds=20e-6),
    Software(name="trtllm", matmul=1.05, step_seconds=0.5e-3, layer_seconds=5e-6, row_seconds=10e-6),
    Software(name="sglang", matmul=1.15, step_seconds=0.5e-3),
)
SOFTWARE = {software.name: software for software in _SOFTWARE}
"""By name. Each is tuned on the H100 deployments of one model only, which the benchmark names."""
