"""The gated activation of Llama-family feed-forward layers (SwiGLU; Shazeer, 2020)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def silu_mul(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` for gate_up [rows, 2n], the gate's columns first; [rows, n]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)
