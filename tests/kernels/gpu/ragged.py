"""Random ragged batches, and attention over them in float64."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from coxswain_kernels.attention.pages import Pages
from tests.kernels.interpreted.pages import made_pages

LONGEST = 3000
"""Tokens of a context."""
MOST = 12
"""Sequences of a batch."""


def lengths(seed: int, *, most: int = MOST) -> list[int]:
    """Of contexts, long and short, borders of tiles and pieces among them."""
    choose = random.Random(seed)
    borders = [1, 16, 17, 64, 65, 512, 513, 1024]
    some = [choose.choice([choose.choice(borders), choose.randint(1, LONGEST)]) for _ in range(choose.randint(2, most))]
    return [min(length, LONGEST) for length in some]


def ragged_pages(contexts: list[int], stored: torch.dtype, *, head_dim: int) -> Pages:
    """With 2 heads of keys; what must not be read is NaN."""
    return made_pages(contexts, dtype=stored, head_dim=head_dim, device=str(torch.get_default_device()))


def attention(query: Tensor, pages: Pages, counts: list[int], *, scale: float) -> Tensor:
    """Of the last `counts` tokens of each sequence, which are the rows of query; float64."""
    rows: list[Tensor] = []
    group = query.shape[1] // pages.cache.keys.shape[2]
    chunks = torch.split(query.double(), counts)
    for sequence, chunk in enumerate(chunks):
        keys, values = (held.double().repeat_interleave(group, 1) for held in pages.gathered(sequence))
        position = torch.arange(keys.shape[0])
        first = keys.shape[0] - chunk.shape[0]
        hidden = position[None, :] > position[first:, None]
        scores = torch.einsum("qhd,khd->hqk", chunk, keys) * scale
        rows.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, float("-inf")).softmax(-1), values))
    return torch.cat(rows)


def error(got: Tensor, wanted: Tensor) -> float:
    """‖got - wanted‖ / ‖wanted‖: infinite where something is no number."""
    distance = (got.double() - wanted).norm() / wanted.norm().clamp(min=1e-30)
    return float(distance) if bool(distance.isfinite()) else float("inf")


def tolerance(dtype: torch.dtype) -> float:
    """What rounding of operands, weights and results to `dtype` explains."""
    return {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}[dtype]
