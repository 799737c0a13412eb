"""Every operation that has a kernel."""

from __future__ import annotations

from coxswain_kernels.attention import paged_decode, paged_prefill, shared_prefix
from coxswain_kernels.cache import block_copy, kv_write
from coxswain_kernels.elementwise import rms_norm, silu_mul
from coxswain_kernels.launching.plans import Operation
from coxswain_kernels.matrices import grouping, linear, lora, lora_backward, quantised_linear
from coxswain_kernels.moe import experts, routing
from coxswain_kernels.sampling import sampling

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
