"""Training of low-rank adapters: what `lora` adds, as a function that torch can differentiate.

With h = x A: the gradient of x is scale * (dy B') A', that of A is x' (scale * dy B'), that of B is (scale * h)' dy.
So the first is `lora` with A and B exchanged, and the others are one kernel, which sums over the rows of an adapter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from coxswain_kernels.launching.checks import check_dtype, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.matrices.grouping import Groups
from coxswain_kernels.matrices.lora import Adapters, expand, rank_width, reference, shrink, sort_rows
from coxswain_kernels.matrices.lora_kernels import gradient_of_ranks
from coxswain_kernels.matrices.matmul import DTYPES

_ROWS = 16
_COLUMNS = 128


def lora_delta(x: Tensor, adapters: Adapters, index: Tensor) -> Tensor:
    """What `lora` adds to zeros, [rows, out]: with gradients of x, `adapters.down` and `adapters.up`.

    Raises as `lora` does.
    """
    if x.device.type == "cpu":
        return delta_reference(x, adapters, index)
    return launch(x, adapters, index)


def delta_reference(x: Tensor, adapters: Adapters, index: Tensor) -> Tensor:
    """The same in plain torch, differentiated by torch."""
    return reference(x.new_zeros(x.shape[0], adapters.up.shape[1]), x, adapters, index)


def launch(x: Tensor, adapters: Adapters, index: Tensor) -> Tensor:
    """The same by the kernels."""
    check_shape("index", index, x.shape[0])
    check_dtype("index", index, torch.int32)
    groups = sort_rows(index, adapters)
    delta: Tensor = _Delta.apply(x, adapters.down, adapters.up, adapters, groups)  # type: ignore[no-untyped-call]
    return delta


class _Delta(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, up: Tensor, adapters: Adapters, groups: Groups) -> Tensor:
        hidden = shrink(x, down, adapters, groups)
        ctx.save_for_backward(x, down, up, hidden)
        ctx.adapters, ctx.groups = replace(adapters, down=down.detach(), up=up.detach()), groups
        return expand(x.new_zeros(x.shape[0], up.shape[1]), hidden, up, adapters, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, down, up, hidden = ctx.saved_tensors
        adapters, groups = ctx.adapters, ctx.groups
        grad = grad.contiguous()
        needs_x, needs_down, needs_up, *_ = ctx.needs_input_grad
        of_x = of_down = of_up = None
        if needs_x or needs_down:
            of_hidden = shrink(grad, up, adapters, groups)
            of_x = expand(torch.zeros_like(x), of_hidden, down, adapters, groups) if needs_x else None
            of_down = _gradient(of_hidden, x, down, adapters, groups) if needs_down else None
        if needs_up:
            of_up = _gradient(hidden, grad, up, adapters, groups)
        return of_x, of_down, of_up, None, None


def _gradient(hidden: Tensor, x: Tensor, matrix: Tensor, adapters: Adapters, groups: Groups) -> Tensor:
    """Of `matrix` [ranks, n]: the scaled ranks of each adapter's rows, transposed, times its rows of x [rows, n]."""
    out = torch.zeros_like(matrix, memory_format=torch.contiguous_format)
    columns = matrix.shape[1]
    tensors = {"hidden": hidden, "x": x, "scales": adapters.scales, "starts": adapters.starts, "out": out}
    tensors |= {"order": groups.order, "places": groups.starts}
    sizes = {"rows": x.shape[0], "columns": columns, "pieces": hidden.shape[0]}
    strides = {"x_stride": x.stride(0), "out_stride": out.stride(0)}
    grid = (adapters.scales.shape[0], triton.cdiv(columns, _COLUMNS))
    gradient_plan(x.dtype, rank_width(adapters)).launch(grid, tensors | sizes | strides)
    return out


def gradient_plan(dtype: torch.dtype, width: int) -> Plan:
    """An adapter and some columns a program."""
    return Plan(
        name=f"{dtype}, {width} ranks".replace("torch.", ""),
        kernel=gradient_of_ranks,
        types={"hidden": "*fp32", "x": pointer(dtype), "scales": "*fp32", "out": pointer(dtype)}
        | dict.fromkeys(("starts", "order", "places"), "*i32")
        | dict.fromkeys(("rows", "columns", "pieces", "x_stride", "out_stride"), "i32"),
        constants={"ROWS": _ROWS, "WIDTH": width, "COLUMNS": _COLUMNS},
        aligned=frozenset({"columns", "x_stride", "out_stride"}),
        batch=frozenset({"rows"}),
        warps=8 if width > 64 else 4,
        tensor_cores=dtype != torch.float32,
    )


def plans() -> tuple[Plan, ...]:
    """Those for adapters of up to 16, 64 and 128 ranks."""
    return tuple(gradient_plan(dtype, width) for dtype in DTYPES for width in (16, 64, 128))


OPERATION = Operation(name="lora_backward", plans=plans, invariant="sums over the rows of a batch, in their order")
