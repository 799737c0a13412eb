"""The gated activation of Llama-family feed-forward layers (SwiGLU; Shazeer, 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
import triton
import triton.language as tl
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous
from coxswain_kernels.launching.plans import Operation, Plan, pointer

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_BLOCK = 1024


def silu_mul(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` for gate_up [rows, 2n], the gate's columns first; [rows, n].

    Raises ValueError when the width is odd, or the dtype has no kernel.
    """
    return reference(gate_up) if gate_up.device.type == "cpu" else launch(gate_up)


def reference(gate_up: Tensor) -> Tensor:
    """The same in plain torch."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def launch(gate_up: Tensor) -> Tensor:
    """The same by the kernel."""
    check_dtype("gate_up", gate_up, *DTYPES)
    if gate_up.dim() != 2 or gate_up.shape[1] % 2:
        raise ValueError(f"gate_up has shape {list(gate_up.shape)}, wanted [rows, 2n]")
    check_last_contiguous(gate_up=gate_up)
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width)
    arguments = {"gate_up": gate_up, "out": out, "stride": gate_up.stride(0)}
    plan(gate_up.dtype, width).launch((rows, triton.cdiv(width, _BLOCK)), arguments)
    return out


def plan(dtype: torch.dtype, width: int) -> Plan:
    """A piece of a row a program."""
    return Plan(
        name=f"{dtype}, {width}".replace("torch.", ""),
        kernel=_silu_mul,
        types={"gate_up": pointer(dtype), "out": pointer(dtype), "stride": "i32"},
        constants={"WIDTH": width, "BLOCK": _BLOCK},
        aligned=frozenset({"stride"}),
    )


def plans() -> tuple[Plan, ...]:
    """Those of an 8B model."""
    return tuple(plan(dtype, 14336) for dtype in DTYPES)


OPERATION = Operation(name="silu_mul", plans=plans)


@triton.jit
def _silu_mul(gate_up, out, stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < WIDTH
    gate = tl.load(gate_up + row * stride + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * stride + WIDTH + columns, mask=inside, other=0.0).to(tl.float32)
    # Rounded where torch rounds: after the activation, and after the product.
    gate = (gate / (1.0 + tl.exp(-gate))).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * WIDTH + columns, (gate * up).to(out.dtype.element_ty), mask=inside)
