"""Linear layer whose weight has 4 or 8 bits and whose rows have 16 (W4A16, W8A16), in groups as GPTQ and AWQ have them.

Few rows are a matter of reading the weight: columns, and where there are few of these the groups, are spread over many
programs. The codes become 16-bit floats exactly; scales are applied to each group's sums, in float32.
"""

from __future__ import annotations

from typing import Literal

import torch
import triton
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.launching.tuning import committed, faster
from coxswain_kernels.matrices.matmul import Tile
from coxswain_kernels.matrices.quantised_linear_kernels import add_splits, multiply_quantised
from coxswain_kernels.matrices.quantised_weights import DTYPES, GROUP, QuantisedWeight, unpack

Kind = Literal["fast", "invariant"]
_INVARIANT = Tile(32, 64, GROUP)
_FEW_ROWS = Tile(16, 64, GROUP, stages=4)
_BLOCK = 1024


def quantised_linear(x: Tensor, weight: QuantisedWeight, bias: Tensor | None = None, *, kind: Kind = "fast") -> Tensor:
    """`x @ weight + bias` for x [rows, in], weight (in, out), bias [out].

    `invariant`: a row's bits are the same in every batch. Raises ValueError when shapes or dtypes do not fit.
    """
    out = reference(x, weight) if x.device.type == "cpu" else launch(x, weight, kind=kind)
    return out if bias is None else out.add_(bias)


def reference(x: Tensor, weight: QuantisedWeight) -> Tensor:
    """The same in plain torch, without a bias."""
    _check(x, weight)
    return (x.float() @ unpack(weight)).to(x.dtype)


def launch(x: Tensor, weight: QuantisedWeight, *, kind: Kind = "invariant") -> Tensor:
    """The same by the kernels."""
    _check(x, weight)
    rows, (inner, columns) = x.shape[0], weight.shape
    tile = _INVARIANT if kind == "invariant" else fast_tile(weight.bits, rows)
    splits = split_count(inner, columns) if tile is _FEW_ROWS else 1
    out = x.new_empty(rows, columns)
    parts = out if splits == 1 else x.new_empty(splits, rows, columns, dtype=torch.float32)
    chosen = plan(
        x.dtype, tile, bits=weight.bits, grouped=weight.grouped, zeros=weight.zeros is not None, splits=splits
    )
    if tile is _FEW_ROWS:
        chosen = faster("quantised_linear", chosen, rows, x.device)
    zeros = weight.scales if weight.zeros is None else weight.zeros
    words = weight.values.view(torch.uint32)
    tensors = {"x": x, "words": words, "scales": weight.scales, "zeros": zeros, "out": parts}
    sizes = {"rows": rows, "inner": inner, "columns": columns, "x_stride": x.stride(0)}
    grid = (triton.cdiv(columns, chosen.constants["COLUMNS"]), triton.cdiv(rows, tile.rows), splits)
    chosen.launch(grid, tensors | sizes)
    if splits > 1:
        arguments = {"parts": parts, "out": out, "rows": rows, "columns": columns}
        sum_plan(x.dtype, splits).launch((rows, triton.cdiv(columns, _BLOCK)), arguments)
    return out


def _check(x: Tensor, weight: QuantisedWeight) -> None:
    weight.check()
    check_shape("x", x, None, weight.shape[0])
    check_dtype("x", x, weight.scales.dtype)
    check_last_contiguous(x=x)
    check_same_device(x=x, values=weight.values)


def fast_tile(bits: int, rows: int) -> Tile:
    """That for so many rows: the weight is made from its bits once for as many as registers allow."""
    if rows <= _FEW_ROWS.rows:
        return _FEW_ROWS
    if rows <= 2 * _INVARIANT.rows:
        return _INVARIANT
    return Tile(128 if bits == 4 else 64, 128, GROUP, warps=8, stages=2)


def split_count(inner: int, columns: int) -> int:
    """Parts of the sum, for a program each: where columns are too few to keep an accelerator busy."""
    tiles, groups, splits = triton.cdiv(columns, _FEW_ROWS.columns), inner // GROUP, 1
    while tiles * splits < 384 and splits < 8 and groups >= 16 * splits:
        splits *= 2
    return splits


def plan(
    dtype: torch.dtype, tile: Tile, *, bits: int, grouped: bool = True, zeros: bool = False, splits: int = 1
) -> Plan:
    """A tile, and a part of the sum, a program."""
    weight = f"{bits} bits{', zero points' if zeros else ''}{'' if grouped else ' by column'}"
    size = f"{tile.rows} × {tile.columns}{f', {splits} parts' if splits > 1 else ''}"
    return Plan(
        name=f"{dtype}, {weight}, {size}".replace("torch.", ""),
        kernel=multiply_quantised,
        types={"x": pointer(dtype), "words": "*u32", "scales": pointer(dtype)}
        | {"zeros": "*u8" if zeros else pointer(dtype), "out": "*fp32" if splits > 1 else pointer(dtype)}
        | dict.fromkeys(("rows", "inner", "columns", "x_stride"), "i32"),
        constants={"ROWS": tile.rows, "COLUMNS": tile.columns, "SPLITS": splits}
        | {"BITS": bits, "GROUPED": grouped, "ZEROS": zeros, "TOGETHER": 2 if bits == 4 and tile.rows <= 32 else 1},
        aligned=frozenset({"inner", "columns", "x_stride"}),
        batch=frozenset({"rows"}),
        warps=tile.warps,
        stages=tile.stages,
        tensor_cores=True,
    )


def sum_plan(dtype: torch.dtype, splits: int) -> Plan:
    """A piece of a row a program."""
    return Plan(
        name=f"{dtype}, sum of {splits} parts".replace("torch.", ""),
        kernel=add_splits,
        types={"parts": "*fp32", "out": pointer(dtype), "rows": "i32", "columns": "i32"},
        constants={"SPLITS": splits, "BLOCK": _BLOCK},
        aligned=frozenset({"columns"}),
        batch=frozenset({"rows"}),
    )


def plans() -> tuple[Plan, ...]:
    """Each kind of weight, for few rows and many, and for any number; in parts for those that have few columns."""
    layers = ((4096, 4096), (4096, 14336), (4096, 28672), (14336, 4096))
    made = []
    for dtype in DTYPES:
        for bits, grouped, zeros in ((4, True, False), (4, True, True), (8, True, False), (8, False, False)):
            for tile in (_FEW_ROWS, fast_tile(bits, 1024), _INVARIANT):
                made.append(plan(dtype, tile, bits=bits, grouped=grouped, zeros=zeros))
        for splits in sorted({split_count(inner, columns) for inner, columns in layers} - {1}):
            made += [plan(dtype, _FEW_ROWS, bits=4, splits=splits), sum_plan(dtype, splits)]
    return (*made, *committed("quantised_linear", made))


OPERATION = Operation(name="quantised_linear", plans=plans)
