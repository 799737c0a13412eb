"""Every operation that has a kernel."""

from __future__ import annotations

from coxswain_kernels import grouping, kv_write, linear, rms_norm, silu_mul
from coxswain_kernels.plans import Operation

OPERATIONS: tuple[Operation, ...] = (
    grouping.OPERATION,
    kv_write.OPERATION,
    linear.OPERATION,
    rms_norm.OPERATION,
    silu_mul.OPERATION,
)
