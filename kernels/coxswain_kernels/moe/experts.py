"""Mixture of experts: each token's feed-forward layers are those of the experts that it is routed to.

Pairs of a token and an expert are sorted by expert into tiles, and each layer is one grouped multiplication over these
(as MegaBlocks does it; Gale et al., 2022), whose grid is as large as it may need to be: programs behind the last tile
end at once, so the host need not know how many there are. A token's experts are then added in the order of their rank.
"""

from __future__ import annotations

from typing import Literal

import torch
import triton
from torch import Tensor

from coxswain_kernels.elementwise.silu_mul import launch as silu_mul
from coxswain_kernels.elementwise.silu_mul import reference as silu_mul_reference
from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.matrices.grouping import Groups
from coxswain_kernels.matrices.grouping import launch as group_rows
from coxswain_kernels.matrices.matmul import DTYPES, Tile, invariant_tile
from coxswain_kernels.moe.experts_kernel import add_ranks, multiply_groups

_GROUP = 8
_BLOCK = 1024
Kind = Literal["fast", "invariant"]


def experts(
    x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor, *, kind: Kind = "fast"
) -> Tensor:
    """Σ over ranks of weights * (silu(x @ gate) * (x @ up)) @ down of the chosen expert; [rows, hidden].

    x [rows, hidden]; weights float32 and chosen int32 [rows, top_k] of `route`; gate_up [experts, hidden, 2 * inner],
    the gate's columns first; down [experts, inner, hidden]. A pair whose expert is outside [0, experts) adds nothing.
    `invariant`: a row's bits are the same in every batch. Raises ValueError when shapes or dtypes do not fit.
    """
    if x.device.type == "cpu":
        return reference(x, weights, chosen, gate_up, down)
    return launch(x, weights, chosen, gate_up, down, kind=kind)


def reference(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The same in plain torch, expert by expert."""
    _check(x, weights, chosen, gate_up, down)
    parts = x.new_zeros(*chosen.shape, x.shape[1])
    for expert in range(gate_up.shape[0]):
        row, rank = (chosen == expert).nonzero(as_tuple=True)
        hidden = silu_mul_reference(x[row] @ gate_up[expert])
        parts[row, rank] = ((hidden @ down[expert]).float() * weights[row, rank, None]).to(x.dtype)
    return parts.float().sum(1).to(x.dtype)


def launch(
    x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor, *, kind: Kind = "invariant"
) -> Tensor:
    """The same by the kernels."""
    _check(x, weights, chosen, gate_up, down)
    pairs, count = chosen.numel(), gate_up.shape[0]
    wide, narrow = _tiles(x.dtype, pairs, count, gate_up.shape[2], x.shape[1], kind)
    groups = group_rows(chosen.reshape(-1), groups=count, height=wide.rows)
    both = _multiply(x, gate_up, groups, wide, pairs=pairs, share=chosen.shape[1])
    parts = _multiply(silu_mul(both), down, groups, narrow, pairs=pairs, weights=weights.contiguous())
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    grid = (x.shape[0], triton.cdiv(x.shape[1], _BLOCK))
    tensors = {"parts": parts, "chosen": chosen.contiguous(), "out": out}
    combine_plan(x.dtype, chosen.shape[1]).launch(grid, tensors | {"columns": x.shape[1], "experts": count})
    return out


def _check(x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor) -> None:
    check_shape("x", x, None, None)
    check_shape("chosen", chosen, x.shape[0], None)
    check_shape("weights", weights, *chosen.shape)
    check_shape("down", down, None, None, x.shape[1])
    check_shape("gate_up", gate_up, down.shape[0], x.shape[1], 2 * down.shape[1])
    check_dtype("x", x, *DTYPES)
    check_dtype("gate_up", gate_up, x.dtype)
    check_dtype("down", down, x.dtype)
    check_dtype("weights", weights, torch.float32)
    check_dtype("chosen", chosen, torch.int32)
    check_last_contiguous(x=x, gate_up=gate_up, down=down)
    check_same_device(x=x, weights=weights, chosen=chosen, gate_up=gate_up, down=down)


def _multiply(
    x: Tensor,
    weight: Tensor,
    groups: Groups,
    tile: Tile,
    *,
    pairs: int,
    share: int = 1,
    weights: Tensor | None = None,
) -> Tensor:
    """Each pair's row of x, which `share` pairs have in common, by its expert's weight; [pairs, columns]."""
    inner, columns = weight.shape[1:]
    out = x.new_empty(pairs, columns)
    chosen = plan(x.dtype, inner, tile, share=share, weighted=weights is not None)
    tensors = {"x": x, "weight": weight, "weights": out if weights is None else weights, "out": out}
    sizes = {"tile_count": groups.tiles.shape[0], "pairs": pairs, "inner": inner, "columns": columns}
    strides = {"x_stride": x.stride(0), "weight_stride": weight.stride(1), "expert_stride": weight.stride(0)}
    arguments = tensors | {"order": groups.order, "tiles": groups.tiles} | sizes | strides
    chosen.launch((groups.tiles.shape[0] * triton.cdiv(columns, tile.columns),), arguments)
    return out


def _tiles(dtype: torch.dtype, pairs: int, experts: int, wide: int, narrow: int, kind: Kind) -> tuple[Tile, Tile]:
    """Of the two layers, as high as one another."""
    if kind == "invariant":
        return invariant_tile(dtype, wide), invariant_tile(dtype, narrow)
    tile = fast_tile(dtype, pairs / experts)
    return tile, tile


def fast_tile(dtype: torch.dtype, rows_each: float) -> Tile:
    """That for about so many rows an expert: no higher than needed, for what is padding is computed as well."""
    if dtype == torch.float32:
        return Tile(16, 64, 32) if rows_each <= 16 else invariant_tile(dtype, 1)
    if rows_each <= 16:
        return Tile(16, 64, 128)
    return Tile(64, 128, 64) if rows_each <= 128 else Tile(128, 128, 64, warps=8)


def plan(dtype: torch.dtype, inner: int, tile: Tile, *, share: int, weighted: bool) -> Plan:
    """One program a tile."""
    size = f"{tile.rows} × {tile.columns}"
    return Plan(
        name=f"{dtype}, {size}, {'down' if weighted else 'gate and up'}, {share} a row".replace("torch.", ""),
        kernel=multiply_groups,
        types={name: pointer(dtype) for name in ("x", "weight", "out")}
        | {"weights": "*fp32" if weighted else pointer(dtype), "order": "*i32", "tiles": "*i32"}
        | dict.fromkeys(("tile_count", "pairs", "inner", "columns"), "i32")
        | dict.fromkeys(("x_stride", "weight_stride", "expert_stride"), "i32"),
        constants={"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": tile.inner, "EVEN": inner % tile.inner == 0}
        | {"SHARE": share, "WEIGHTED": weighted, "GROUP": _GROUP},
        aligned=frozenset({"inner", "columns", "x_stride", "weight_stride", "expert_stride"}),
        batch=frozenset({"tile_count", "pairs"}),
        warps=tile.warps,
        stages=tile.stages,
        tensor_cores=dtype != torch.float32,
    )


def combine_plan(dtype: torch.dtype, top_k: int) -> Plan:
    """A piece of a row a program."""
    return Plan(
        name=f"{dtype}, combine {top_k}".replace("torch.", ""),
        kernel=add_ranks,
        types={"parts": pointer(dtype), "chosen": "*i32", "out": pointer(dtype), "columns": "i32", "experts": "i32"},
        constants={"TOP_K": top_k, "BLOCK": _BLOCK},
        aligned=frozenset({"columns"}),
    )


def plans() -> tuple[Plan, ...]:
    """Fast and invariant ones of a model with 2 experts a token, 4096 wide and 14336 inside."""
    made = []
    for dtype in DTYPES:
        fast = [fast_tile(dtype, rows) for rows in (1, 64, 1024)]
        for inner, columns, share, weighted in ((4096, 28672, 2, False), (14336, 4096, 1, True)):
            tiles = [*fast, invariant_tile(dtype, columns)]
            made += [plan(dtype, inner, tile, share=share, weighted=weighted) for tile in tiles]
        made.append(combine_plan(dtype, 2))
    return tuple({one.name: one for one in made}.values())


OPERATION = Operation(name="experts", plans=plans)
