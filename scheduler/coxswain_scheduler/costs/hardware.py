"""What accelerators can do at most, and what they cost.

Peaks are the vendors' for dense bf16 (not sparse), memory is what the driver shows. Prices are dollars per hour as in
the Mélange paper (arXiv 2404.14527) for L4, A10G, A100 and H100, list prices of a large cloud for the others: examples
that a caller replaces by its own with `dataclasses.replace`.
"""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One device, in bytes, FLOP/s, bytes/s and dollars per hour."""

    name: str
    bf16_flops: float
    fp8_flops: float
    """The same as bf16 where the device has no fp8."""
    memory_bandwidth: float
    memory_bytes: int
    link_bandwidth: float
    """Between two devices of a node, in one direction."""
    price: float
    kernels: str | None = None
    """Whose kernel tables tell how much of the peaks is attained: its own, or those of a device of the same
    architecture. None: no measurement; constants stand in, and everything made from them says so."""

    @property
    def validated(self) -> bool:
        """Whether measurements stand behind its times."""
        return self.kernels is not None

    def matmul_flops(self, weight_bytes: float) -> float:
        """Peak for weights of so many bytes: below a byte they are expanded to bf16 first."""
        return self.fp8_flops if weight_bytes == 1 else self.bf16_flops


_ACCELERATORS = (
    Accelerator(
        name="h200",
        bf16_flops=989e12,
        fp8_flops=1979e12,
        memory_bandwidth=4.8e12,
        memory_bytes=141 * _GIB,
        link_bandwidth=450e9,
        price=7.91,
        kernels="h100",
    ),
    Accelerator(
        name="h100",
        bf16_flops=989e12,
        fp8_flops=1979e12,
        memory_bandwidth=3.35e12,
        memory_bytes=80 * _GIB,
        link_bandwidth=450e9,
        price=7.516,
        kernels="h100",
    ),
    Accelerator(
        name="a100",
        bf16_flops=312e12,
        fp8_flops=312e12,
        memory_bandwidth=2.039e12,
        memory_bytes=80 * _GIB,
        link_bandwidth=300e9,
        price=3.67,
        kernels="a100",
    ),
    Accelerator(
        name="l40s",
        bf16_flops=362e12,
        fp8_flops=733e12,
        memory_bandwidth=864e9,
        memory_bytes=46068 * 1024**2,
        link_bandwidth=32e9,
        price=1.861,
        kernels="l40s",
    ),
    Accelerator(
        name="l4",
        bf16_flops=121e12,
        fp8_flops=242e12,
        memory_bandwidth=300e9,
        memory_bytes=24 * _GIB,
        link_bandwidth=32e9,
        price=0.70,
    ),
    Accelerator(
        name="a10g",
        bf16_flops=70e12,
        fp8_flops=70e12,
        memory_bandwidth=600e9,
        memory_bytes=24 * _GIB,
        link_bandwidth=32e9,
        price=1.01,
    ),
    Accelerator(  # nominal: 16 cores with AVX-512 at 3 GHz, eight channels of memory
        name="cpu",
        bf16_flops=3e12,
        fp8_flops=3e12,
        memory_bandwidth=200e9,
        memory_bytes=128 * _GIB,
        link_bandwidth=12.5e9,
        price=0.80,
    ),
)
ACCELERATORS = {accelerator.name: accelerator for accelerator in _ACCELERATORS}
"""By name, in lower case."""
