"""Pages of caches for tests of attention, with what must never be read poisoned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from coxswain_kernels.attention.pages import Pages
from coxswain_kernels.cache.kv_cache import KVCache

F32, F16, BF16, E4M3, INT8 = torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8

DTYPES = pytest.mark.parametrize(
    ("dtype", "stored"),
    [(F32, F32), (F16, F16), (BF16, BF16), (BF16, E4M3), (BF16, INT8)],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)


def made_pages(
    contexts: Sequence[int],
    *,
    dtype: torch.dtype = F32,
    kv_heads: int = 2,
    head_dim: int = 64,
    block_size: int = 16,
    device: str = "cpu",
) -> Pages:
    """Of sequences of those lengths, in shuffled blocks.

    Places that nobody wrote hold NaN where the type has one, and tables lead nowhere beyond their contexts.
    """
    needed = [-(-context // block_size) for context in contexts]
    count = sum(needed) + 3
    order = torch.randperm(count).tolist()
    tables = torch.full((len(contexts), max(needed, default=0) + 1), 10**9, dtype=torch.int32)
    written = torch.zeros(count, block_size, dtype=torch.bool)
    for sequence, blocks in enumerate(needed):
        mine = [order.pop() for _ in range(blocks)]
        tables[sequence, :blocks] = torch.tensor(mine)
        for place, block in enumerate(mine):
            written[block, : max(0, contexts[sequence] - place * block_size)] = True
    shape = (count, block_size, kv_heads, head_dim)
    keys, values = (_stored(torch.randn(shape), dtype, written).to(device) for _ in range(2))
    scaled = dtype in (E4M3, INT8)
    scales = [(torch.rand(shape[:3]) * 0.02 + 0.01).to(device) for _ in range(2 * scaled)]
    lengths = torch.tensor(contexts, dtype=torch.int32, device=device)
    return Pages(KVCache(keys, values, *scales), tables.to(device), lengths)


def part(pages: Pages, sequences: Sequence[int]) -> Pages:
    """Some of its sequences, in that order."""
    chosen = torch.tensor(sequences, device=pages.tables.device)
    return replace(pages, tables=pages.tables[chosen], contexts=pages.contexts[chosen])


def assert_near(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """As near as numbers of that type, which weights are rounded to as well, can be."""
    tolerance = {F32: 1e-5, F16: 2e-3, BF16: 1.6e-2}[wanted.dtype]
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def _stored(x: torch.Tensor, dtype: torch.dtype, written: torch.Tensor) -> torch.Tensor:
    if dtype == INT8:
        return (x * 40).to(dtype)
    if dtype == E4M3:
        x = x * 40
    return torch.where(written[..., None, None], x, torch.nan).to(dtype)
