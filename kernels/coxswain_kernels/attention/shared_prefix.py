"""Decode attention of sequences that share a prefix (Hydragen; Juravsky et al., 2024), exact.

What a group of sequences has in the same blocks is read once for many of them, whose queries are the rows of a matrix
product; what each has of its own is attended to as in `paged_decode`, and all is joined by log-sum-exp. The invariant
launch shares whole pieces of `paged_decode`, whose invariant bits it has, whether and with whom a prefix is shared.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
import triton
from torch import Tensor

from coxswain_kernels.attention import paged_decode as decode
from coxswain_kernels.attention.layout import Layout
from coxswain_kernels.attention.paged_prefill import alike, check_starts, fast_sizes, plans_of
from coxswain_kernels.attention.paged_prefill import plan as chunk_plan
from coxswain_kernels.attention.pages import Pages
from coxswain_kernels.attention.shared_prefix_kernel import attend_shared
from coxswain_kernels.launching.checks import check_dtype, check_last_contiguous, check_same_device, check_shape
from coxswain_kernels.launching.plans import Operation, Plan
from coxswain_kernels.launching.targets import target_of

_UNIT = 64
"""Tokens that a fast launch shares at a time: what is left of a prefix is taken for each sequence's own."""


def shared_prefix(
    query: Tensor,
    pages: Pages,
    groups: Tensor,
    shared: Tensor,
    *,
    scale: float,
    invariant: bool,
    longest: int | None = None,
) -> Tensor:
    """`paged_decode`, where group i is the sequences from `groups[i]` to `groups[i + 1]`.

    groups int32 [groups + 1], from 0 to the number of sequences; shared int32 [sequences], alike in a group: the first
    tokens that all of the group have, in the same blocks of their tables. 0 is nothing, and 1 sequence is a group too.
    Raises ValueError when shapes or dtypes do not fit, when a context or a table is out of range, when `groups` do not
    cut the sequences, or when a group does not share what `shared` says.
    """
    pages.check(query)
    check_sharing(pages, groups, shared)
    if query.device.type == "cpu":
        return decode.reference(query, pages, scale=scale)
    return launch(query, pages, groups, shared, scale=scale, invariant=invariant, longest=longest)


def check_sharing(pages: Pages, groups: Tensor, shared: Tensor) -> None:
    """Sequences of a group have the blocks that `shared` says, in common. Raises ValueError. Reads the device."""
    sequences, block_size = pages.contexts.shape[0], pages.cache.keys.shape[1]
    _check_groups(pages, groups, shared)
    check_starts("groups", groups, torch.full((groups.shape[0] - 1,), sequences), rows=sequences)
    places = groups.tolist()
    for first, end in pairwise(places):
        for sequence in range(first, end):
            length, context = int(shared[sequence]), int(pages.contexts[sequence])
            if length != int(shared[first]) or not 0 <= length <= context:
                wanted = f"wanted {int(shared[first])} as in its group, and no more than the context of {context}"
                raise ValueError(f"shared[{sequence}] is {length}, {wanted}")
            blocks = -(-length // block_size)
            if not torch.equal(pages.tables[sequence, :blocks], pages.tables[first, :blocks]):
                raise ValueError(f"tables[{sequence}] has not the first {blocks} blocks of tables[{first}]")


def launch(
    query: Tensor,
    pages: Pages,
    groups: Tensor,
    shared: Tensor,
    *,
    scale: float,
    invariant: bool,
    longest: int | None = None,
) -> Tensor:
    """The same by the kernels. Reads nothing on the device."""
    layout = pages.layout(query)
    sequences = query.shape[0]
    check_shape("contexts", pages.contexts, sequences)
    _check_groups(pages, groups, shared)
    longest = pages.reach(longest)
    prefix = (invariant_plan if invariant else fast_plan)(layout, target_of(query.device))
    tokens = prefix.constants["ROWS"] // layout.group_rows
    tiles = sequences // tokens + groups.shape[0] - 1
    # Of tiles this large, a multiprocessor holds one.
    full = sequences // tokens * layout.kv_heads
    together = decode.fast_splits(full, longest, decode.multiprocessors(query.device))
    apart = decode.fast_splits(sequences * layout.kv_heads, longest, decode.programs_at_once(query.device))
    piece = decode.PIECE if invariant else 0
    slots = triton.cdiv(longest, piece) if invariant else together + apart
    parts, states = decode.workspace(query, slots)
    arguments = pages.arguments(query, scale) | {"shared": shared, "parts": parts, "states": states}
    arguments |= {"piece": piece, "slots": slots}
    grid = (tiles * layout.kv_heads, slots if invariant else together)
    prefix.launch(grid, arguments | {"starts": groups, "sequences": groups.shape[0] - 1, "splits": together})
    arguments |= {"contexts": pages.contexts, "splits": apart, "first_slot": 0 if invariant else together}
    grid = (sequences * layout.kv_heads, slots if invariant else apart)
    decode.plan(layout).launch(grid, arguments | {"unit": prefix.constants["UNIT"]})
    return decode.join(parts, states, pages.contexts, query, piece=piece)


@cache
def fast_plan(layout: Layout, target: str) -> Plan:
    """Tiles as in a fast prefill."""
    rows, tile, warps = fast_sizes(layout, target)
    return chunk_plan(layout, attend_shared, {"ROWS": rows, "TILE": tile, "UNIT": _UNIT}, "fast", (target,), warps)


@cache
def invariant_plan(layout: Layout, target: str) -> Plan:
    """Tiles as in an invariant prefill, for the same reasons."""
    many = target != "gfx942" and layout.dtype != torch.float32
    sizes = {"ROWS": 32 if many else 16, "TILE": decode.invariant_tile(layout), "UNIT": decode.PIECE}
    return chunk_plan(layout, attend_shared, sizes, "invariant", alike(target), 4)


def plans() -> tuple[Plan, ...]:
    """For the prefix; what is each sequence's own is attended to by the plans of `paged_decode`."""
    return plans_of(fast_plan, invariant_plan)


OPERATION = Operation(name="shared_prefix", plans=plans)


def _check_groups(pages: Pages, groups: Tensor, shared: Tensor) -> None:
    check_shape("groups", groups, None)
    check_shape("shared", shared, pages.contexts.shape[0])
    check_dtype("groups", groups, torch.int32)
    check_dtype("shared", shared, torch.int32)
    check_last_contiguous(groups=groups, shared=shared)
    check_same_device(keys=pages.cache.keys, groups=groups, shared=shared)
    if not groups.shape[0]:
        raise ValueError("groups is empty, wanted at least [0]")
