"""Attention over a paged cache: decoding, prefilling in chunks, and decoding behind a common prefix."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from benchmarks.kernel_rows import attention_peers as peers
from benchmarks.kernel_rows.workload import Call, Contenders, Model, Workload, ready, short
from coxswain_kernels.attention import paged_decode, paged_prefill, shared_prefix
from coxswain_kernels.attention.pages import Pages
from coxswain_kernels.cache.kv_cache import KVCache
from coxswain_kernels.cache.quantisation import DTYPES as EIGHT_BIT

BF16 = torch.bfloat16


def decoding(model: Model, *, quick: bool) -> Iterator[Workload]:
    """A token of each of many sequences."""
    shapes = [(1, 32768), *((batch, context) for context in (2048, 8192) for batch in (1, 8, 32, 128, 256))]
    for batch, context in shapes[:3] if quick else shapes:
        yield decode(model, batch, context)
    for stored in EIGHT_BIT:
        yield decode(model, 8 if quick else 128, 2048 if quick else 8192, stored=stored)


def prefilling(model: Model, *, quick: bool) -> Iterator[Workload]:
    """Whole prompts, chunks of long ones, and chunks of various lengths together."""
    ragged = ((512, 512), (1, 4096), (1500, 1500), (35, 2083), (2000, 6000))
    shapes = [((2048, 2048),), ((512, 8192),), ((8192, 8192),), ((2048, 32768),), ((2048, 2048),) * 4, ragged]
    for chunks in shapes[:2] if quick else shapes:
        yield prefill(model, chunks)


def sharing(model: Model, *, quick: bool) -> Iterator[Workload]:
    """A batch with one prefix, beside decoding that does not know of it."""
    for batch, prefix, suffix in [(32, 2048, 128)] if quick else [(32, 2048, 128), (256, 2048, 128), (256, 16384, 128)]:
        yield share(model, batch, prefix, suffix)


def decode(model: Model, batch: int, context: int, *, stored: torch.dtype = BF16) -> Workload:
    """Peers know nothing of scales, so there are none for caches of 8 bits."""

    def make(device: torch.device) -> Contenders:
        pages = filled(model, _apart(model, [context] * batch), [context] * batch, stored, device)
        query = torch.randn(batch, model.heads, model.head_dim, device=device).to(BF16)
        others = peers.decoding(query, pages, context=context, scale=_scale(model)) if stored == BF16 else {}
        return {
            "fast": ready(_decode(query, pages, context, invariant=False)),
            "invariant": ready(_decode(query, pages, context, invariant=True)),
            **others,
        }

    return Workload(
        operation="paged_decode",
        shape=f"batch {batch}, context {context}",
        dtype=short(BF16) if stored == BF16 else f"{short(BF16)}, cache {short(stored)}",
        bytes_moved=batch * (context * _token_bytes(model, stored) + _row_bytes(model)),
        flops=4 * model.heads * model.head_dim * batch * context,
        make=make,
    )


def prefill(model: Model, chunks: tuple[tuple[int, int], ...]) -> Workload:
    """Chunks of (tokens, context behind the last of them)."""
    counts, contexts = [count for count, _ in chunks], [context for _, context in chunks]

    def make(device: torch.device) -> Contenders:
        pages = filled(model, _apart(model, contexts), contexts, BF16, device)
        query = torch.randn(sum(counts), model.heads, model.head_dim, device=device).to(BF16)
        starts = torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=device)
        run = partial(paged_prefill.launch, query, pages, starts, scale=_scale(model))
        return {
            "fast": ready(partial(run, invariant=False)),
            "invariant": ready(partial(run, invariant=True)),
            **peers.prefilling(query, pages, starts, chunks=chunks, scale=_scale(model)),
        }

    pairs = sum(count * (context - count) + count * (count + 1) // 2 for count, context in chunks)
    alike = len(set(chunks)) == 1
    names = [f"{count} of {context}" for count, context in (chunks[:1] if alike else chunks)]
    return Workload(
        operation="paged_prefill",
        shape=(f"{len(chunks)} × " if alike and len(chunks) > 1 else "") + ", ".join(names),
        dtype=short(BF16),
        bytes_moved=sum(contexts) * _token_bytes(model, BF16) + sum(counts) * _row_bytes(model),
        flops=4 * model.heads * model.head_dim * pairs,
        make=make,
    )


def share(model: Model, batch: int, prefix: int, suffix: int) -> Workload:
    """What is counted as moved is the prefix once, and what each sequence has of its own."""
    context = prefix + suffix

    def make(device: torch.device) -> Contenders:
        pages = filled(model, _together(model, batch, prefix, suffix), [context] * batch, BF16, device)
        query = torch.randn(batch, model.heads, model.head_dim, device=device).to(BF16)
        groups = torch.tensor([0, batch], dtype=torch.int32, device=device)
        shared = torch.full((batch,), prefix, dtype=torch.int32, device=device)
        run = partial(shared_prefix.launch, query, pages, groups, shared, scale=_scale(model), longest=context)
        return {
            "fast": ready(partial(run, invariant=False)),
            "invariant": ready(partial(run, invariant=True)),
            "paged_decode": ready(_decode(query, pages, context, invariant=False)),
            **peers.sharing(query, pages, prefix=prefix, scale=_scale(model)),
        }

    tokens = prefix + batch * suffix
    return Workload(
        operation="shared_prefix",
        shape=f"batch {batch}, prefix {prefix}, suffix {suffix}",
        dtype=short(BF16),
        bytes_moved=tokens * _token_bytes(model, BF16) + batch * _row_bytes(model),
        flops=4 * model.heads * model.head_dim * batch * context,
        make=make,
    )


def filled(
    model: Model, tables: list[list[int]], contexts: list[int], stored: torch.dtype, device: torch.device
) -> Pages:
    """Pages in random places of a cache."""
    blocks = max(max(row) for row in tables) + 1
    shape = (blocks, model.block_size, model.kv_heads, model.head_dim)
    places = torch.randperm(blocks)
    widest = max(len(row) for row in tables)
    entries = places[torch.tensor([row + [0] * (widest - len(row)) for row in tables])]
    scales = [torch.rand(shape[:3], device=device) for _ in range(2)] if stored in EIGHT_BIT else []
    keys, values = (_noise(shape, stored, device) for _ in range(2))
    lengths = torch.tensor(contexts, dtype=torch.int32, device=device)
    return Pages(KVCache(keys, values, *scales), entries.to(device, torch.int32), lengths)


def _noise(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if dtype == torch.int8:
        return torch.randint(-127, 128, shape, dtype=dtype, device=device)
    return torch.randn(shape, dtype=BF16, device=device).to(dtype)


def _apart(model: Model, contexts: list[int]) -> list[list[int]]:
    ends = list(accumulate(-(-context // model.block_size) for context in contexts))
    return [list(range(start, end)) for start, end in zip([0, *ends], ends, strict=False)]


def _together(model: Model, batch: int, prefix: int, suffix: int) -> list[list[int]]:
    common, own = prefix // model.block_size, -(-suffix // model.block_size)
    firsts = (common + own * place for place in range(batch))
    return [[*range(common), *range(first, first + own)] for first in firsts]


def _decode(query: Tensor, pages: Pages, longest: int, *, invariant: bool) -> Call:
    scale = query.shape[-1] ** -0.5
    return partial(paged_decode.launch, query, pages, scale=scale, invariant=invariant, longest=longest)


def _scale(model: Model) -> float:
    return float(model.head_dim**-0.5)


def _token_bytes(model: Model, stored: torch.dtype) -> int:
    """Keys and values of a token, with their scales."""
    return 2 * model.kv_heads * (model.head_dim * stored.itemsize + (4 if stored in EIGHT_BIT else 0))


def _row_bytes(model: Model) -> int:
    """A query and its result."""
    return 2 * model.heads * model.head_dim * BF16.itemsize
