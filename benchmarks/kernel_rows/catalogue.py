"""Every operation that is measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from benchmarks.kernel_rows import attention, elementwise, matrices, transfer
from benchmarks.kernel_rows.workload import Model, Workload


class Source(Protocol):
    """The workloads of an operation."""

    def __call__(self, model: Model, *, quick: bool) -> Iterator[Workload]:
        """Few and small ones, if `quick`."""


SOURCES: dict[str, Source] = {
    "paged_decode": attention.decoding,
    "paged_prefill": attention.prefilling,
    "shared_prefix": attention.sharing,
    "quantised_linear": matrices.multiplying_quantised,
    "linear": matrices.multiplying,
    "experts": matrices.routed,
    "lora": matrices.adapted,
    "block_copy": transfer.copying,
    "kv_write": transfer.writing,
    "rms_norm": elementwise.normalising,
    "silu_mul": elementwise.activating,
    "sampling": elementwise.sampled,
}
