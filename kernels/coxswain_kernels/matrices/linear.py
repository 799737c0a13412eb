"""Linear layer whose weight is stored input-major, which matrix libraries read fastest when rows are few."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.matrices.matmul import DTYPES, invariant_tile, product

_GROUP = 8
"""Tiles of rows that are computed side by side, so that those of a weight are read from the cache."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, max_rows: int | None = None) -> Tensor:
    """`x @ weight + bias` for x [rows, in], weight [in, out], bias [out].

    A matrix library picks its kernel by the number of rows, and kernels differ in the order in which they add. Who
    needs a row's bits to be the same in every batch passes `max_rows`. On a CPU that is the largest of the row counts
    known to be safe, to one of which `x` is padded: more rows are computed in slices of that many. On a GPU the kernel
    below, whose tiles do not depend on the rows, stands in for the library.

    Raises ValueError when shapes or dtypes do not fit the kernel, RuntimeError when they do not fit torch.
    """
    if x.device.type == "cpu" or max_rows is None:
        return reference(x, weight, bias, max_rows=max_rows)
    return launch(x, weight, bias)


def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, max_rows: int | None = None) -> Tensor:
    """The same by the matrix library."""
    if max_rows is None or x.shape[0] <= max_rows:
        return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)
    out = x.new_empty(x.shape[0], weight.shape[1])
    for start in range(0, x.shape[0], max_rows):
        out[start : start + max_rows] = reference(x[start : start + max_rows], weight, bias)
    return out


def launch(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same by the kernel, with the same bits for a row in every batch."""
    check_shape("x", x, None, None)
    check_shape("weight", weight, x.shape[1], None)
    rows, inner, columns = x.shape[0], *weight.shape
    offset = weight if bias is None else bias
    if bias is not None:
        check_shape("bias", bias, columns)
    check_dtype("x", x, *DTYPES)
    check_dtype("weight", weight, x.dtype)
    check_dtype("bias", offset, x.dtype)
    check_last_contiguous(x=x, weight=weight, bias=offset)
    check_same_device(x=x, weight=weight, bias=offset)
    out = x.new_empty(rows, columns)
    chosen = plan(x.dtype, inner, columns, bias=bias is not None)
    grid = (triton.cdiv(rows, chosen.constants["ROWS"]) * triton.cdiv(columns, chosen.constants["COLUMNS"]),)
    tensors = {"x": x, "weight": weight, "bias": offset, "out": out}
    sizes = {"rows": rows, "inner": inner, "columns": columns}
    chosen.launch(grid, tensors | sizes | {"x_stride": x.stride(0), "weight_stride": weight.stride(0)})
    return out


def plan(dtype: torch.dtype, inner: int, columns: int, *, bias: bool = False) -> Plan:
    """One program a tile. It is not told how many rows there are."""
    tile = invariant_tile(dtype, columns)
    even = inner % tile.inner == 0
    return Plan(
        name=f"{dtype}, {tile.rows} × {tile.columns}{', bias' if bias else ''}".replace("torch.", ""),
        kernel=_linear,
        types={name: pointer(dtype) for name in ("x", "weight", "bias", "out")}
        | dict.fromkeys(("rows", "inner", "columns", "x_stride", "weight_stride"), "i32"),
        constants={"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": tile.inner, "EVEN": even}
        | {"BIAS": bias, "GROUP": _GROUP},
        aligned=frozenset({"inner", "columns", "x_stride", "weight_stride"}),
        batch=frozenset({"rows"}),
        warps=tile.warps,
        stages=tile.stages,
        tensor_cores=dtype != torch.float32,
    )


def plans() -> tuple[Plan, ...]:
    """Those of an 8B model's narrow and wide layers, and of the one that has a bias in some models."""
    layers = ((6144, True), (4096, False), (28672, False))
    made = [plan(dtype, 4096, columns, bias=bias) for dtype in DTYPES for columns, bias in layers]
    return tuple({one.name: one for one in made}.values())


OPERATION = Operation(name="linear", plans=plans)


@triton.jit(do_not_specialize=["rows"])
def _linear(
    x,
    weight,
    bias,
    out,
    rows,
    inner,
    columns,
    x_stride,
    weight_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    EVEN: tl.constexpr,
    BIAS: tl.constexpr,
    GROUP: tl.constexpr,
):
    across = tl.cdiv(columns, COLUMNS)
    place = tl.program_id(0)
    row_tile, column_tile = tl.swizzle2d(place // across, place % across, tl.cdiv(rows, ROWS), across, GROUP)
    row = row_tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    row_here, column_here = row < rows, column < columns
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    sums = product(x + row * x_stride, weight + column, row_here, column_here, inner, weight_stride, sums, INNER, EVEN)
    if BIAS:
        sums += tl.load(bias + column, mask=column_here, other=0.0).to(tl.float32)[None, :]
    address = out + row[:, None] * columns + column[None, :]
    tl.store(address, sums.to(out.dtype.element_ty), mask=row_here[:, None] & column_here[None, :])
