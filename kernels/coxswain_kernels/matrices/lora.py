"""Low-rank adapters of a linear layer (LoRA; Hu et al., 2021), a different one in every row, of different ranks.

Rows are sorted into tiles of one adapter, as Punica (Chen et al., 2023) gathers them; the adapters' matrices lie one
behind the other, rank by rank, so that mixed ranks take no padding (S-LoRA; Sheng et al., 2023). Two kernels: to the
ranks, whose long sum is cut into pieces of a fixed length, and from the ranks, where the pieces are added in order.
So a row's bits are the same in every batch; and the same in every server, if its `max_rank` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import triton
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.matrices.grouping import Groups
from coxswain_kernels.matrices.grouping import launch as group_rows
from coxswain_kernels.matrices.lora_kernels import from_ranks, to_ranks
from coxswain_kernels.matrices.matmul import DTYPES

_ROWS = 16
_PIECE = 512
_COLUMNS = 128
_MAX_RANK = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Those of one layer. Adapter i has the ranks from starts[i] to starts[i + 1]."""

    down: Tensor
    """Its A, [ranks, in]."""
    up: Tensor
    """Its B, [ranks, out]."""
    starts: Tensor
    """[adapters + 1], int32."""
    scales: Tensor
    """[adapters], float32."""
    max_rank: int
    """The highest that any adapter may have. It chooses the plan, so keep it while adapters come and go."""

    def check(self) -> None:
        """Raises ValueError when shapes, dtypes or ranks do not fit. Reads the device: once an adapter is enough."""
        ranks, count = self.down.shape[0], self.scales.shape[0]
        check_shape("down", self.down, None, None)
        check_shape("up", self.up, ranks, None)
        check_shape("scales", self.scales, None)
        check_shape("starts", self.starts, count + 1)
        check_dtype("down", self.down, *DTYPES)
        check_dtype("up", self.up, self.down.dtype)
        check_dtype("scales", self.scales, torch.float32)
        check_dtype("starts", self.starts, torch.int32)
        check_last_contiguous(down=self.down, up=self.up, starts=self.starts, scales=self.scales)
        check_same_device(down=self.down, up=self.up, starts=self.starts, scales=self.scales)
        if not 1 <= self.max_rank <= _MAX_RANK:
            raise ValueError(f"max_rank is {self.max_rank}, wanted 1 to {_MAX_RANK}")
        starts = self.starts.tolist()
        if starts[0] < 0 or starts[-1] > ranks:
            raise ValueError(f"starts are from {starts[0]} to {starts[-1]}, wanted 0 to {ranks}")
        for adapter, rank in enumerate(b - a for a, b in pairwise(starts)):
            if not 0 <= rank <= self.max_rank:
                raise ValueError(f"adapter {adapter} has rank {rank}, wanted 0 to {self.max_rank}")


def lora(y: Tensor, x: Tensor, adapters: Adapters, index: Tensor) -> Tensor:
    """Add scale * (x @ A) @ B of each row's adapter to y [rows, out] in place, and return it.

    x [rows, in]; index [rows], int32, the adapter of each row, or anything outside [0, adapters) for none; `adapters`
    were checked. Raises ValueError when shapes or dtypes do not fit.
    """
    check_shape("index", index, x.shape[0])
    if x.device.type == "cpu":
        return reference(y, x, adapters, index)
    return launch(y, x, adapters, sort_rows(index, adapters))


def sort_rows(index: Tensor, adapters: Adapters) -> Groups:
    """Tiles of one adapter: for `launch`, which may share them between the layers of a step."""
    return group_rows(index, groups=adapters.scales.shape[0], height=_ROWS)


def reference(y: Tensor, x: Tensor, adapters: Adapters, index: Tensor) -> Tensor:
    """The same in plain torch, adapter by adapter."""
    _check(x, adapters.down)
    _check(y, adapters.up)
    starts = adapters.starts.tolist()
    for adapter, scale in enumerate(adapters.scales.tolist()):
        row, rank = (index == adapter).nonzero().flatten(), slice(starts[adapter], starts[adapter + 1])
        hidden = (x[row].float() @ adapters.down[rank].float().t() * scale).to(x.dtype)
        y[row] = (y[row].float() + hidden.float() @ adapters.up[rank].float()).to(y.dtype)
    return y


def launch(y: Tensor, x: Tensor, adapters: Adapters, groups: Groups) -> Tensor:
    """The same by the kernels, for rows sorted by `sort_rows`."""
    check_shape("y", y, x.shape[0], None)
    return expand(y, shrink(x, adapters.down, adapters, groups), adapters.up, adapters, groups)


def shrink(x: Tensor, matrix: Tensor, adapters: Adapters, groups: Groups) -> Tensor:
    """x [rows, in] @ the transposed `matrix` [ranks, in] of each row's adapter, in pieces of the sum over in.

    [pieces, rows, width] in float32; rows without an adapter are not written.
    """
    _check(x, matrix)
    rows, inner = x.shape
    pieces = triton.cdiv(inner, _PIECE)
    out = x.new_empty(pieces, rows, rank_width(adapters), dtype=torch.float32)
    tensors = {"x": x, "matrix": matrix, "starts": adapters.starts, "order": groups.order, "tiles": groups.tiles}
    sizes = {"rows": rows, "inner": inner, "x_stride": x.stride(0), "matrix_stride": matrix.stride(0)}
    chosen = shrink_plan(x.dtype, inner, out.shape[2])
    chosen.launch((groups.tiles.shape[0], pieces), tensors | {"out": out} | sizes)
    return out


def expand(y: Tensor, hidden: Tensor, matrix: Tensor, adapters: Adapters, groups: Groups) -> Tensor:
    """Add scale * hidden (of `shrink`) @ the `matrix` [ranks, out] of each row's adapter to y [rows, out] in place."""
    _check(y, matrix)
    rows, columns = y.shape
    tensors = {"hidden": hidden, "matrix": matrix, "scales": adapters.scales, "starts": adapters.starts, "y": y}
    tensors |= {"order": groups.order, "tiles": groups.tiles}
    sizes = {"rows": rows, "columns": columns, "pieces": hidden.shape[0]}
    strides = {"y_stride": y.stride(0), "matrix_stride": matrix.stride(0)}
    grid = (groups.tiles.shape[0], triton.cdiv(columns, _COLUMNS))
    expand_plan(y.dtype, hidden.shape[2]).launch(grid, tensors | sizes | strides)
    return y


def _check(rows: Tensor, matrix: Tensor) -> None:
    check_shape("rows", rows, None, matrix.shape[1])
    check_dtype("rows", rows, *DTYPES)
    check_dtype("matrix", matrix, rows.dtype)
    check_last_contiguous(rows=rows, matrix=matrix)
    check_same_device(rows=rows, matrix=matrix)


def rank_width(adapters: Adapters) -> int:
    """How many ranks a program computes."""
    return max(16, int(triton.next_power_of_2(adapters.max_rank)))


def shrink_plan(dtype: torch.dtype, inner: int, width: int) -> Plan:
    """To the ranks: a tile of rows and a piece of the sum a program."""
    block = 32 if dtype == torch.float32 else 128 if width <= 64 else 64
    return Plan(
        name=f"{dtype}, to {width} ranks".replace("torch.", ""),
        kernel=to_ranks,
        types={"x": pointer(dtype), "matrix": pointer(dtype), "out": "*fp32"}
        | dict.fromkeys(("starts", "order", "tiles"), "*i32")
        | dict.fromkeys(("rows", "inner", "x_stride", "matrix_stride"), "i32"),
        constants={"ROWS": _ROWS, "WIDTH": width, "PIECE": _PIECE, "INNER": block, "EVEN": inner % block == 0},
        aligned=frozenset({"inner", "x_stride", "matrix_stride"}),
        batch=frozenset({"rows"}),
        stages=3,
        tensor_cores=dtype != torch.float32,
    )


def expand_plan(dtype: torch.dtype, width: int) -> Plan:
    """From the ranks: a tile of rows and of columns a program."""
    return Plan(
        name=f"{dtype}, from {width} ranks".replace("torch.", ""),
        kernel=from_ranks,
        types={"hidden": "*fp32", "matrix": pointer(dtype), "scales": "*fp32", "y": pointer(dtype)}
        | dict.fromkeys(("starts", "order", "tiles"), "*i32")
        | dict.fromkeys(("rows", "columns", "pieces", "y_stride", "matrix_stride"), "i32"),
        constants={"ROWS": _ROWS, "WIDTH": width, "COLUMNS": _COLUMNS}
        | {"INNER": 16 if dtype == torch.float32 else min(width, 64)},
        aligned=frozenset({"columns", "y_stride", "matrix_stride"}),
        batch=frozenset({"rows"}),
        tensor_cores=dtype != torch.float32,
    )


def plans() -> tuple[Plan, ...]:
    """Those for adapters of up to 16, 64 and 128 ranks."""
    return tuple(
        plan
        for dtype in DTYPES
        for width in (16, 64, 128)
        for plan in (shrink_plan(dtype, 4096, width), expand_plan(dtype, width))
    )


OPERATION = Operation(name="lora", plans=plans)
