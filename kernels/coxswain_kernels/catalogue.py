"""Every operation that has a kernel."""

from __future__ import annotations

from coxswain_kernels import (
    block_copy,
    experts,
    grouping,
    kv_write,
    linear,
    lora,
    lora_backward,
    paged_decode,
    paged_prefill,
    quantised_linear,
    rms_norm,
    routing,
    sampling,
    shared_prefix,
    silu_mul,
)
from coxswain_kernels.plans import Operation

OPERATIONS: tuple[Operation, ...] = (
    block_copy.OPERATION,
    experts.OPERATION,
    grouping.OPERATION,
    kv_write.OPERATION,
    linear.OPERATION,
    lora.OPERATION,
    lora_backward.OPERATION,
    paged_decode.OPERATION,
    paged_prefill.OPERATION,
    quantised_linear.OPERATION,
    rms_norm.OPERATION,
    routing.OPERATION,
    sampling.OPERATION,
    shared_prefix.OPERATION,
    silu_mul.OPERATION,
)
