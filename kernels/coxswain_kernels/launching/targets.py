"""The accelerators that kernels are compiled for, and which of them a device is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from triton.backends.compiler import GPUTarget


@dataclass(frozen=True, slots=True)
class Target:
    """An accelerator to compile for. A kernel that wants more shared memory compiles, and cannot be launched."""

    name: str
    gpu: GPUTarget
    shared_bytes: int


TARGETS = (
    Target("sm_80", GPUTarget("cuda", 80, 32), 163 * 1024),
    Target("sm_90", GPUTarget("cuda", 90, 32), 227 * 1024),
    Target("gfx942", GPUTarget("hip", "gfx942", 64), 64 * 1024),
)


def target_of(device: torch.device) -> str:
    """For which of TARGETS the plans of a device are; what interprets kernels is taken for an H200."""
    if device.type == "cpu":
        return "sm_90"
    if torch.version.hip is not None:
        return "gfx942"
    return "sm_90" if torch.cuda.get_device_capability(device)[0] == 9 else "sm_80"
