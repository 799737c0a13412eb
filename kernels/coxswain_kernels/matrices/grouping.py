"""Rows sorted by the weight that each wants, in tiles of one weight, without waiting for the device.

A stable counting sort: the tiles of group 0, those of group 1, and so on, each group's last tile filled up with a row
that does not exist. Where a row stands depends on the batch; what is computed of it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from coxswain_kernels.launching.checks import check_dtype, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows in tiles of `height`."""

    order: Tensor
    """The row at each place [tiles * height], int32; the number of rows where there is none. Behind the last tile that
    has a group, anything."""
    tiles: Tensor
    """The group of each tile [tiles], int32; -1 behind the last, for how many there are only the device knows."""
    starts: Tensor
    """The place at which each group begins and the one before it ends [groups + 1], int32."""
    height: int


def group_rows(group: Tensor, *, groups: int, height: int) -> Groups:
    """Tiles of the rows of group [rows], int32: the group of each, or anything outside [0, groups) for none.

    Raises ValueError for another shape or dtype.
    """
    choose = reference if group.device.type == "cpu" else launch
    return choose(group, groups=groups, height=height)


def reference(group: Tensor, *, groups: int, height: int) -> Groups:
    """The same in plain torch."""
    rows, tiles, ends = group.shape[0], _most_tiles(group.shape[0], groups, height), [0]
    order, owners = group.new_full((tiles * height,), rows), group.new_full((tiles,), -1)
    for number in range(groups):
        members = (group == number).nonzero().flatten()
        start = ends[-1]
        ends.append(start + triton.cdiv(members.shape[0], height) * height)
        order[start : start + members.shape[0]] = members
        owners[start // height : ends[-1] // height] = number
    return Groups(order, owners, group.new_tensor(ends), height)


def launch(group: Tensor, *, groups: int, height: int) -> Groups:
    """The same by the kernels: one counts, one places."""
    check_shape("group", group, None)
    check_dtype("group", group, torch.int32)
    group, rows = group.contiguous(), group.shape[0]
    most = _most_tiles(rows, groups, height)
    counts, starts = group.new_empty(groups), group.new_empty(groups + 1)
    made = Groups(group.new_empty(most * height), group.new_empty(most), starts, height)
    count, place = _plans_for(groups, height)
    count.launch((groups,), {"group": group, "counts": counts, "rows": rows})
    tensors = {"group": group, "counts": counts, "order": made.order, "tiles": made.tiles, "starts": starts}
    place.launch((groups,), tensors | {"rows": rows, "groups": groups, "most": most})
    return made


def _most_tiles(rows: int, groups: int, height: int) -> int:
    return (rows + min(rows, groups) * (height - 1)) // height


def _plans_for(groups: int, height: int) -> tuple[Plan, Plan]:
    integers = pointer(torch.int32)
    count = Plan(
        name="count",
        kernel=_count,
        types={"group": integers, "counts": integers, "rows": "i32"},
        constants={"BLOCK": _BLOCK},
        batch=frozenset({"rows"}),
    )
    width = triton.next_power_of_2(groups)
    place = Plan(
        name=f"place, {width} groups, tiles of {height}",
        kernel=_place,
        types=dict.fromkeys(("group", "counts", "order", "tiles", "starts"), integers)
        | dict.fromkeys(("rows", "groups", "most"), "i32"),
        constants={"GROUPS": width, "HEIGHT": height, "BLOCK": _BLOCK},
        batch=frozenset({"rows", "most"}),
    )
    return count, place


def plans() -> tuple[Plan, ...]:
    """Those for the adapters of a server, and for models of 8 and of 128 experts."""
    made = [
        plan for groups, height in ((64, 16), (8, 64), (128, 16), (128, 128)) for plan in _plans_for(groups, height)
    ]
    return tuple({one.name: one for one in made}.values())


OPERATION = Operation(name="grouping", plans=plans, invariant="computes nothing of the rows")


@triton.jit(do_not_specialize=["rows"])
def _count(group, counts, rows, BLOCK: tl.constexpr):
    mine = tl.program_id(0)
    found = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        found += (tl.load(group + row, mask=row < rows, other=-1) == mine).to(tl.int32)
    tl.store(counts + mine, tl.sum(found, axis=0))


@triton.jit(do_not_specialize=["rows", "most"])
def _place(
    group,
    counts,
    order,
    tiles,
    starts,
    rows,
    groups,
    most,
    GROUPS: tl.constexpr,
    HEIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    mine = tl.program_id(0)
    other = tl.arange(0, GROUPS)
    count = tl.load(counts + other, mask=other < groups, other=0)
    taken = (count + HEIGHT - 1) // HEIGHT
    first = tl.sum(tl.where(other < mine, taken, 0), axis=0)
    end = first + tl.sum(tl.where(other == mine, taken, 0), axis=0)
    tl.store(starts + mine, first * HEIGHT)
    # The last group also says that behind it there is none.
    is_last = mine == groups - 1
    until = tl.where(is_last, most, end)
    tl.store(starts + groups, end * HEIGHT, mask=is_last)
    for start in range(first, until, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        tl.store(tiles + tile, tl.where(tile < end, mine, -1), mask=tile < until)
    place = first * HEIGHT
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        member = (tl.load(group + row, mask=row < rows, other=-1) == mine).to(tl.int32)
        tl.store(order + place + tl.cumsum(member, axis=0) - 1, row, mask=member > 0)
        place += tl.sum(member, axis=0)
    place += tl.arange(0, HEIGHT)
    tl.store(order + place, rows, mask=place < end * HEIGHT)
