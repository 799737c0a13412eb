"""Attention of one token per sequence over a paged KV cache.

Query heads of a KV group are the rows of one tile, for the matrix unit (GQA packing), and the context is split over
programs whose results are joined by log-sum-exp (Flash-Decoding; Dao et al., 2023). The fast launch cuts every context
into as many pieces as fill the device. The invariant one cuts it into pieces of a fixed size, which are joined first to
last: then a row's bits depend on its own context alone. The binary is the same.
"""

from __future__ import annotations

from functools import cache

import torch
import triton
from torch import Tensor

from coxswain_kernels.attention.layout import ALIGNED, HEAD_DIMS, QUERY_DTYPES, Layout
from coxswain_kernels.attention.paged_decode_kernel import attend_piece, join_pieces
from coxswain_kernels.attention.pages import Pages
from coxswain_kernels.attention.reference import attention
from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT
from coxswain_kernels.launching.checks import check_shape
from coxswain_kernels.launching.plans import Operation, Plan, pointer
from coxswain_kernels.launching.targets import target_of
from coxswain_kernels.launching.tuning import case_of, committed, tuned, varied

PIECE = 512
"""Tokens of a piece of an invariant launch."""
_TILE = 64
_FEWEST = 4 * _TILE
"""Tokens that are worth a piece of their own."""
_MOST = 128
"""Pieces of a context in a fast launch."""
_BATCH = frozenset({"table_stride", "unit", "piece", "splits", "slots", "first_slot"})
_NOTHING_SHARED = 2**31 - 1


def paged_decode(query: Tensor, pages: Pages, *, scale: float, invariant: bool, longest: int | None = None) -> Tensor:
    """Attention of query [sequences, heads, head_dim], the last token of each sequence; alike, contiguous.

    A context of 0 gives zeros. `invariant`: a row's bits are the same in every batch. `longest`: no context is longer
    than that, which spares programs and memory for their results; without it, what the tables have room for.
    Raises ValueError when shapes or dtypes do not fit, or a context or a table is out of range.
    """
    pages.check(query)
    if query.device.type == "cpu":
        return reference(query, pages, scale=scale)
    return launch(query, pages, scale=scale, invariant=invariant, longest=longest)


def reference(query: Tensor, pages: Pages, *, scale: float) -> Tensor:
    """The same in plain torch."""
    return attention(query, pages, list(range(query.shape[0] + 1)), scale=scale)


def launch(query: Tensor, pages: Pages, *, scale: float, invariant: bool, longest: int | None = None) -> Tensor:
    """The same by the kernels. Reads nothing on the device, so a CUDA graph can hold it."""
    layout = pages.layout(query)
    check_shape("contexts", pages.contexts, query.shape[0])
    longest = pages.reach(longest)
    piece = PIECE if invariant else 0
    chosen, programs = plan(layout), programs_at_once(query.device)
    if not invariant:
        constants = tuned("paged_decode", case_of(chosen, query.shape[0]), query.device)
        chosen = varied(chosen, constants)
        programs = constants.get("programs", 0) * multiprocessors(query.device) or programs
    splits = fast_splits(query.shape[0] * layout.kv_heads, longest, programs)
    slots = triton.cdiv(longest, PIECE) if invariant else splits
    parts, states = workspace(query, slots)
    arguments = pages.arguments(query, scale) | {"contexts": pages.contexts, "parts": parts, "states": states}
    arguments |= {"shared": pages.contexts, "unit": _NOTHING_SHARED}
    arguments |= {"piece": piece, "splits": splits, "slots": slots, "first_slot": 0}
    chosen.launch((query.shape[0] * layout.kv_heads, slots), arguments)
    return join(parts, states, pages.contexts, query, piece=piece)


def join(parts: Tensor, states: Tensor, contexts: Tensor, query: Tensor, *, piece: int) -> Tensor:
    """The result, of the pieces that `workspace` has room for."""
    sequences, heads, slots, head_dim = parts.shape
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    arguments = {"parts": parts, "states": states, "contexts": contexts, "out": out, "piece": piece, "slots": slots}
    join_plan(query.dtype, heads=heads, head_dim=head_dim).launch((sequences * heads,), arguments)
    return out


def workspace(query: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Room for the sums of all pieces [sequences, heads, slots, head_dim], and for their maxima and norms [..., 2]."""
    sequences, heads, head_dim = query.shape
    sums = torch.empty(sequences, heads, slots, head_dim, dtype=torch.float32, device=query.device)
    return sums, torch.empty(sequences, heads, slots, 2, dtype=torch.float32, device=query.device)


def fast_splits(rows: int, longest: int, programs: int) -> int:
    """Into how many pieces to cut contexts of up to `longest` tokens, of `rows` pairs of a sequence and a KV head.

    As few as leave a device that holds so many programs at a time about as little idle as any number would: programs
    come in waves, and in the last one there may be few (as in FlashAttention).
    """
    return _fewest_splits(max(rows, 1), max(1, min(-(-longest // _FEWEST), _MOST)), programs)


@cache
def _fewest_splits(rows: int, most: int, programs: int) -> int:
    busy = [rows * splits / (-(-rows * splits // programs) * programs) for splits in range(1, most + 1)]
    return next(splits for splits, share in enumerate(busy, 1) if share >= 0.9 * max(busy))


def programs_at_once(device: torch.device) -> int:
    """How many programs of a piece the device holds, by shared memory."""
    each = {"sm_90": 3, "sm_80": 2}.get(target_of(device), 1)
    return each * multiprocessors(device)


def multiprocessors(device: torch.device) -> int:
    """Of the device; what interprets kernels is as large as an H200."""
    return 132 if device.type == "cpu" else torch.cuda.get_device_properties(device).multi_processor_count


@cache
def plan(layout: Layout) -> Plan:
    """Fast or invariant: what differs is the piece."""
    exact = layout.dtype == torch.float32
    return Plan(
        name=layout.name,
        kernel=attend_piece,
        types=layout.types()
        | dict.fromkeys(_BATCH, "i32")
        | {"contexts": "*i32", "shared": "*i32", "parts": "*fp32", "states": "*fp32"},
        constants=layout.constants() | {"ROWS": max(16, layout.group_rows), "TILE": invariant_tile(layout)},
        aligned=ALIGNED,
        batch=_BATCH,
        stages=2 if exact else 4 if layout.scaled else 3,
        tensor_cores=not exact,
        notes=layout.notes,
    )


def invariant_tile(layout: Layout) -> int:
    """Keys of a tile, here and wherever the bits are to be the same."""
    return 16 if layout.dtype == torch.float32 else _TILE


@cache
def join_plan(dtype: torch.dtype, *, heads: int, head_dim: int) -> Plan:
    """One query head of one sequence a program: a warp has four of 128 numbers in each thread."""
    return Plan(
        name=f"join, {dtype}, head {head_dim}".replace("torch.", ""),
        kernel=join_pieces,
        types={"parts": "*fp32", "states": "*fp32", "contexts": "*i32", "out": pointer(dtype)}
        | {"piece": "i32", "slots": "i32"},
        constants={"HEADS": heads, "DIM": head_dim, "UNROLL": 16},
        batch=frozenset({"piece", "slots"}),
        warps=1,
    )


def layouts() -> tuple[Layout, ...]:
    """Those of the head sizes and types that there are, otherwise of an 8B model."""
    return tuple(
        Layout(dtype=dtype, stored=stored, head_dim=head_dim)
        for dtype in QUERY_DTYPES
        for stored in (dtype, *((*EIGHT_BIT, torch.uint8) if dtype == torch.bfloat16 else ()))
        for head_dim in HEAD_DIMS
    )


def plans() -> tuple[Plan, ...]:
    """One for each layout, what was measured to be faster, and those that join pieces."""
    joins = (join_plan(dtype, heads=32, head_dim=head_dim) for dtype in QUERY_DTYPES for head_dim in HEAD_DIMS)
    pieces = tuple(map(plan, layouts()))
    return (*pieces, *committed("paged_decode", pieces), *joins)


OPERATION = Operation(name="paged_decode", plans=plans)
