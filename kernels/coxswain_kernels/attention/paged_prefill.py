"""Causal attention of chunks of several sequences, of any lengths, over a paged KV cache, in one launch.

A tile is some consecutive tokens of one sequence, each with the query heads of a KV group (GQA packing). The fast plan
has tiles of 128 rows, and masks only the keys that not all of them see. The invariant plan has smaller ones, which take
the same instructions as a decoded token's, and goes through the context in the pieces of `paged_decode`, whose
invariant bits it has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from coxswain_kernels.attention.layout import ALIGNED, Layout
from coxswain_kernels.attention.paged_decode import PIECE, invariant_tile, layouts
from coxswain_kernels.attention.paged_prefill_kernel import attend_chunk
from coxswain_kernels.attention.pages import Pages
from coxswain_kernels.attention.reference import attention
from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.launching.targets import TARGETS, target_of
from coxswain_kernels.launching.tuning import committed, faster

BATCH = frozenset({"table_stride", "sequences", "tiles", "piece", "splits", "slots"})


def paged_prefill(query: Tensor, pages: Pages, starts: Tensor, *, scale: float, invariant: bool) -> Tensor:
    """Attention of query [rows, heads, head_dim]; alike, contiguous.

    Rows `starts[i]` to `starts[i + 1]` are the last tokens of sequence i, whose own keys are in the cache already;
    starts int32 [sequences + 1], from 0 to the number of rows. `invariant`: a row's bits are the same in every batch
    and every chunk, and those of `paged_decode`. Raises ValueError when shapes or dtypes do not fit, when a context or
    a table is out of range, or when `starts` do not cut the rows into chunks that their contexts have room for.
    """
    pages.check(query)
    check_starts("starts", starts, pages.contexts, rows=query.shape[0])
    if query.device.type == "cpu":
        return reference(query, pages, starts, scale=scale)
    return launch(query, pages, starts, scale=scale, invariant=invariant)


def check_starts(name: str, starts: Tensor, contexts: Tensor, *, rows: int) -> None:
    """They ascend from 0 to `rows`, by no more than each context. Raises ValueError. Reads the device."""
    check_shape(name, starts, contexts.shape[0] + 1)
    places = starts.tolist()
    if places[0] != 0 or places[-1] != rows:
        raise ValueError(f"{name} are from {places[0]} to {places[-1]}, wanted from 0 to {rows}")
    for place, context in enumerate(contexts.tolist()):
        count = places[place + 1] - places[place]
        if not 0 <= count <= context:
            raise ValueError(
                f"{name}[{place}] to the next are {count} rows, wanted 0 to {context}, which is the context"
            )


def reference(query: Tensor, pages: Pages, starts: Tensor, *, scale: float) -> Tensor:
    """The same in plain torch."""
    return attention(query, pages, starts.tolist(), scale=scale)


def launch(query: Tensor, pages: Pages, starts: Tensor, *, scale: float, invariant: bool) -> Tensor:
    """The same by the kernel. Reads nothing on the device."""
    layout = pages.layout(query)
    sequences = pages.contexts.shape[0]
    check_shape("starts", starts, sequences + 1)
    check_dtype("starts", starts, torch.int32)
    check_last_contiguous(starts=starts)
    check_same_device(query=query, starts=starts)
    target = target_of(query.device)
    if invariant:
        chosen = invariant_plan(layout, target)
    else:
        chosen = faster("paged_prefill", fast_plan(layout, target), query.shape[0], query.device)
    tokens = chosen.constants["ROWS"] // layout.group_rows
    tiles = query.shape[0] // tokens + sequences
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    arguments = pages.arguments(query, scale) | {"contexts": pages.contexts, "starts": starts, "out": out}
    chosen.launch((tiles * layout.kv_heads,), arguments | {"sequences": sequences, "tiles": tiles})
    return out


@cache
def fast_plan(layout: Layout, target: str) -> Plan:
    """As much of a tile as the registers hold, which bytes leave fewer of: they are converted there."""
    rows, tile, warps = fast_sizes(layout, target)
    return plan(layout, attend_chunk, {"ROWS": rows, "TILE": tile, "PIECE": 0}, "fast", (target,), warps)


@cache
def invariant_plan(layout: Layout, target: str) -> Plan:
    """Tiles that take the same matrix instructions as the 16 rows of decode: sm_90 has others from 64 rows on, and
    gfx942 from 32. Long heads of bytes leave no registers for more than 16."""
    many = target != "gfx942" and layout.dtype != torch.float32 and (not layout.scaled or layout.head_dim == 64)
    sizes = {"ROWS": 32 if many else 16, "TILE": invariant_tile(layout), "PIECE": PIECE}
    return plan(layout, attend_chunk, sizes, "invariant", alike(target), 4)


def fast_sizes(layout: Layout, target: str) -> tuple[int, int, int]:
    """Rows and keys of a tile, and warps."""
    if layout.dtype == torch.float32:
        return 16, 16, 4
    if target == "gfx942":
        return 128, 32 if layout.scaled else 64, 4
    if target == "sm_90":
        return 128, 32 if layout.scaled else 64, 8
    return (32, 64, 8) if layout.scaled else (128, 32, 8)


def alike(target: str) -> tuple[str, ...]:
    """Targets that have the invariant plans of this one: those of the same maker."""
    return (target,) if target == "gfx942" else ("sm_80", "sm_90")


def plan(layout: Layout, kernel: Any, sizes: dict[str, int], name: str, targets: tuple[str, ...], warps: int) -> Plan:
    """A plan for some targets, of a kernel with `starts` and tiles of `ROWS` rows."""
    exact = layout.dtype == torch.float32
    rows = {"GROUP_ROWS": layout.group_rows, "ROWS": max(sizes["ROWS"], layout.group_rows)}
    types = layout.types() | dict.fromkeys(BATCH, "i32") | {"out": pointer(layout.dtype)}
    types |= dict.fromkeys(("contexts", "starts", "shared"), "*i32") | dict.fromkeys(("parts", "states"), "*fp32")
    others = [target.name for target in TARGETS if target.name not in targets]
    return Plan(
        name=f"{layout.name}, {name} on {' and '.join(targets)}",
        kernel=kernel,
        types={parameter: kind for parameter, kind in types.items() if parameter in kernel.arg_names},
        constants=layout.constants() | sizes | rows,
        aligned=ALIGNED,
        batch=BATCH & set(kernel.arg_names),
        warps=warps,
        stages=_stages(layout, targets),
        tensor_cores=not exact,
        notes=layout.notes | dict.fromkeys(others, "unsupported: has a plan of its own"),
    )


def _stages(layout: Layout, targets: tuple[str, ...]) -> int:
    """As many as leave enough registers, where bytes are converted in them, and shared memory."""
    if layout.dtype == torch.float32:
        return 1
    return 2 if targets == ("gfx942",) or (layout.scaled and targets != ("sm_90",)) else 3


def plans() -> tuple[Plan, ...]:
    """Both of every layout, for every target, and what was measured to be faster."""
    return plans_of(fast_plan, invariant_plan) + committed("paged_prefill", plans_of(fast_plan))


def plans_of(*makers: Callable[[Layout, str], Plan]) -> tuple[Plan, ...]:
    """What they make of every layout and target, each once, without what no target takes."""
    made = {
        plan.name: plan
        for layout in layouts()
        for maker in makers
        for target in TARGETS
        if not (plan := maker(layout, target.name)).notes.get(target.name, "").startswith("unsupported")
    }
    return tuple(made.values())


OPERATION = Operation(name="paged_prefill", plans=plans)
