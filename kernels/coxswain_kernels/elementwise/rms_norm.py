"""Root-mean-square normalisation (Zhang and Sennrich, 2019), alone or after the residual addition in front of it.

Row by row, so a row's bits do not depend on its neighbours. Statistics are taken in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last dimension of x [..., n], weight [n].

    Raises ValueError when shapes or dtypes do not fit.
    """
    if x.device.type == "cpu":
        return reference(x, weight, eps)
    return launch(x.reshape(-1, x.shape[-1]), weight, eps).view(x.shape)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Add x to `residual` in place, and normalise the sum; both [rows, n]. Raises as `rms_norm` does."""
    if x.device.type == "cpu":
        return reference(residual.add_(x), weight, eps)
    return launch(x, weight, eps, residual=residual)


def reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same in plain torch, for x [..., n]."""
    y = x.float()
    scale: Tensor = torch.linalg.vecdot(y, y).unsqueeze(-1).div_(x.shape[-1]).add_(eps).rsqrt_()
    return (y * scale).to(x.dtype) * weight


def launch(x: Tensor, weight: Tensor, eps: float, *, residual: Tensor | None = None) -> Tensor:
    """The same by the kernel, for x [rows, n]; with `residual` [rows, n], x is added to it in place first."""
    rows, width = x.shape
    check_shape("weight", weight, width)
    check_dtype("x", x, *DTYPES)
    check_dtype("weight", weight, x.dtype)
    check_last_contiguous(x=x, weight=weight)
    check_same_device(x=x, weight=weight)
    if residual is not None:
        check_shape("residual", residual, rows, width)
        check_dtype("residual", residual, x.dtype)
        check_last_contiguous(residual=residual)
        check_same_device(x=x, residual=residual)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    added = x if residual is None else residual
    arguments = {"x": x, "residual": added, "weight": weight, "out": out, "eps": eps}
    arguments |= {"x_stride": x.stride(0), "residual_stride": added.stride(0)}
    plan(x.dtype, width, residual=residual is not None).launch((rows,), arguments)
    return out


def plan(dtype: torch.dtype, width: int, *, residual: bool) -> Plan:
    """One program a row, whole."""
    return Plan(
        name=f"{'add, ' if residual else ''}{dtype}, {width}".replace("torch.", ""),
        kernel=_rms_norm,
        types={name: pointer(dtype) for name in ("x", "residual", "weight", "out")}
        | {"eps": "fp32", "x_stride": "i32", "residual_stride": "i32"},
        constants={"WIDTH": width, "BLOCK": triton.next_power_of_2(width), "ADD": residual},
        aligned=frozenset({"x_stride", "residual_stride"}),
        warps=8 if width > 2048 else 4,
    )


def plans() -> tuple[Plan, ...]:
    """Those of an 8B model."""
    return tuple(plan(dtype, 4096, residual=residual) for dtype in DTYPES for residual in (False, True))


OPERATION = Operation(name="rms_norm", plans=plans)


@triton.jit
def _rms_norm(
    x,
    residual,
    weight,
    out,
    eps,
    x_stride,
    residual_stride,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ADD: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    y = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        sums = residual + row * residual_stride + columns
        y += tl.load(sums, mask=inside, other=0.0).to(tl.float32)
        # What is kept is what is normalised: the sum as it is stored.
        rounded = y.to(residual.dtype.element_ty)
        tl.store(sums, rounded, mask=inside)
        y = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(y * y, axis=0) / WIDTH + eps)
    normal = (y * scale).to(out.dtype.element_ty).to(tl.float32)
    by = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * WIDTH + columns, (normal * by).to(out.dtype.element_ty), mask=inside)
