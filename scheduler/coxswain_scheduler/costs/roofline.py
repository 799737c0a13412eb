"""The physical floor of a step: arithmetic at the peak, or every byte read once, whichever takes longer.

After Williams et al., "Roofline" (2009). It leaves out what a perfect engine could hide: launches, collectives, the
traffic of activations, KV that a prefill reads again. No engine is faster; a model of one that is has a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

from coxswain_scheduler.costs.hardware import Accelerator
from coxswain_scheduler.costs.model_shape import Matrix, ModelShape
from coxswain_scheduler.costs.timing import Work


@dataclass(frozen=True, slots=True)
class Roofline:
    """The floor for `shape` on `tensor_parallel` devices."""

    shape: ModelShape
    accelerator: Accelerator
    tensor_parallel: int = 1

    def seconds(self, work: Work) -> float:
        """Seconds that a step takes at least."""
        if not (work.prefill_tokens or work.decodes):
            return 0.0
        return max(self._arithmetic(work), self._reading(work))

    def _arithmetic(self, work: Work) -> float:
        shape, device = self.shape, self.accelerator
        tokens = work.prefill_tokens + work.decodes
        layers = 2.0 * shape.active_parameters * tokens / device.matmul_flops(shape.weight_bytes)
        pairs = work.prefill_pairs + work.context
        rest = 2.0 * shape.embedding_size * work.decodes + shape.flops_per_pair * pairs
        return (layers + rest / device.bf16_flops) / self.tensor_parallel

    def _reading(self, work: Work) -> float:
        shape, tokens = self.shape, work.prefill_tokens + work.decodes
        weights = sum(matrix.size / matrix.experts * matrix.touched(tokens) for matrix in shape.matrices(1))
        head = 2.0 * shape.embedding_size if work.decodes else 0.0
        total = weights * shape.weight_bytes + head + work.context * shape.kv_bytes_per_token
        return total / self.tensor_parallel / self.accelerator.memory_bandwidth


def matmul_floor(accelerator: Accelerator, rows: float, matrix: Matrix, weight_bytes: float) -> float:
    """Seconds of one layer's `matrix` for `rows` tokens: weights of those experts that are needed, activations once."""
    touched = matrix.touched(rows)
    flops = 2.0 * rows * matrix.active * matrix.outputs * matrix.inputs
    weights = touched * matrix.outputs * matrix.inputs * weight_bytes
    activations = 2.0 * rows * matrix.active * (matrix.outputs + matrix.inputs)
    return max(flops / accelerator.matmul_flops(weight_bytes), (weights + activations) / accelerator.memory_bandwidth)
