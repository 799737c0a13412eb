"""Causal attention over a paged KV cache, with the same bits for a token in prefill and in decode.

Query tokens are cut into tiles: one token of a decoding sequence, a few of a prefilling one. The query heads of a KV
group are the rows of a tile, so each (tile, KV block) pair is one small matrix product, and the pairs of all sequences
run in one batched product. Softmax weights are taken against a maximum over the whole row, and partial sums are added
block after block, so a token's result depends on its own context only: not on neighbours, nor on where a chunk ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOKENS_AT_ONCE = 512
"""Query tokens times KV blocks computed at a time, so that intermediate results stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one sequence in a step: its KV blocks, and where its rows start among all rows."""

    row: int
    start: int
    """Position of the first token."""
    count: int
    blocks: Sequence[int]


Piece = tuple[Span, int, int]
"""Tokens of a span that make one tile: first and last."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A plan for some tiles of one size, made once per step and used by every layer."""

    rows: Tensor
    """[tiles x tile]: which query token each place of a tile holds; the last one repeats in a tile that is not full."""
    tile: int
    pages: Tensor
    """[pairs]: KV block of each pair, walk by walk: block 0 of every tile, then block 1 of those that reach it, …"""
    owners: Tensor
    """[pairs]: tile of each pair; longer contexts have lower tiles, so every walk covers the first few tiles."""
    walks: tuple[int, ...]
    """How many tiles each walk covers; descending, summing to `pairs`."""
    mask: Tensor
    """[pairs, tile, block_size]: -inf where a token must not look, else 0."""


def plan_tiles(
    spans: Sequence[Span], *, tile: int, block_size: int, device: torch.device | str = "cpu"
) -> Iterator[Tiles]:
    """Cut `spans` into tiles of `tile` tokens, and those into plans that fit the processor's cache when they run."""
    pieces = [
        (span, first, min(first + tile, span.count) - 1) for span in spans for first in range(0, span.count, tile)
    ]
    pieces.sort(key=lambda piece: -(piece[0].start + piece[2]))
    taken: list[Piece] = []
    pairs = 0
    for piece in pieces:
        reach = (piece[0].start + piece[2]) // block_size + 1
        if taken and (pairs + reach) * tile > TOKENS_AT_ONCE:
            yield _plan(taken, tile=tile, block_size=block_size, device=device)
            taken, pairs = [], 0
        taken.append(piece)
        pairs += reach
    if taken:
        yield _plan(taken, tile=tile, block_size=block_size, device=device)


def _plan(pieces: list[Piece], *, tile: int, block_size: int, device: torch.device | str) -> Tiles:
    first = np.array([piece[1] for piece in pieces])[:, None]
    last = np.array([piece[2] for piece in pieces])[:, None]
    offsets = np.minimum(first + np.arange(tile), last)
    rows = offsets + np.array([piece[0].row for piece in pieces])[:, None]
    positions = offsets + np.array([piece[0].start for piece in pieces])[:, None]
    reach = positions[:, -1] // block_size + 1
    table = np.zeros((len(pieces), reach[0]), dtype=np.int64)
    for index, (span, _, _) in enumerate(pieces):
        table[index, : reach[index]] = span.blocks[: reach[index]]
    walk, owner = np.nonzero(np.arange(reach[0])[:, None] < reach[None, :])
    key = walk[:, None, None] * block_size + np.arange(block_size)
    mask = np.where(key > positions[owner][:, :, None], np.float32(-np.inf), np.float32(0))
    return Tiles(
        rows=torch.from_numpy(rows.reshape(-1)).to(device),
        tile=tile,
        pages=torch.from_numpy(table[owner, walk]).to(device),
        owners=torch.from_numpy(owner).to(device),
        walks=tuple(np.bincount(walk).tolist()),
        mask=torch.from_numpy(mask).to(device),
    )


def paged_attention(
    query: Tensor, keys: Tensor, values: Tensor, tiles: Tiles, *, scale: float, min_rows: int, out: Tensor
) -> None:
    """Attention of the tokens in `tiles`, written to their rows of `out`.

    query [tokens, heads, head_dim] and out alike; keys [kv_heads, blocks, head_dim, block_size]; values
    [kv_heads, blocks, block_size, head_dim]. The keys and values of the tokens themselves are already in their blocks.
    Tiles with fewer than `min_rows` rows (query heads of a group x tokens) are padded to as many.
    """
    packed = _pack(query, tiles, kv_heads=keys.shape[0], min_rows=min_rows) * scale
    scores = _scores(packed, keys, tiles, group=query.shape[1] // keys.shape[0])
    highest = _over_walks(scores.amax(-1), tiles.walks, torch.maximum)
    scores.sub_(highest.index_select(1, tiles.owners).unsqueeze(-1)).exp_()
    total = _over_walks(scores.sum(-1), tiles.walks, torch.add)
    result = _over_walks(_weighted(scores, values, tiles), tiles.walks, torch.add)
    _unpack(result.div_(total.unsqueeze(-1)), tiles, out)


def _pack(query: Tensor, tiles: Tiles, *, kv_heads: int, min_rows: int) -> Tensor:
    """[kv_heads, tiles, rows, head_dim], rows being the tokens of a tile, each with the query heads of the group."""
    _, heads, dim = query.shape
    group = heads // kv_heads
    packed = query.index_select(0, tiles.rows).view(-1, tiles.tile, kv_heads, group, dim).permute(2, 0, 1, 3, 4)
    packed = packed.reshape(kv_heads, -1, tiles.tile * group, dim)
    missing = min_rows - packed.shape[2]
    return torch.nn.functional.pad(packed, (0, 0, 0, missing)) if missing > 0 else packed


def _unpack(result: Tensor, tiles: Tiles, out: Tensor) -> None:
    kv_heads, count, _, dim = result.shape
    group = out.shape[1] // kv_heads
    result = result[:, :, : tiles.tile * group].reshape(kv_heads, count * tiles.tile, group, dim)
    out.index_copy_(0, tiles.rows, result.transpose(0, 1).reshape(-1, *out.shape[1:]))


def _scores(packed: Tensor, keys: Tensor, tiles: Tiles, *, group: int) -> Tensor:
    """Masked scores [kv_heads, pairs, rows, block_size]."""
    kv_heads, _, rows, dim = packed.shape
    block_size = keys.shape[3]
    block = keys.index_select(1, tiles.pages).view(-1, dim, block_size)
    query = packed.index_select(1, tiles.owners).view(-1, rows, dim)
    scores = torch.bmm(query, block).view(kv_heads, -1, rows, block_size)
    masked = scores[:, :, : tiles.tile * group].view(kv_heads, -1, tiles.tile, group, block_size)
    masked.add_(tiles.mask.unsqueeze(2))
    return scores


def _weighted(weights: Tensor, values: Tensor, tiles: Tiles) -> Tensor:
    """Sums of values by weight, block for block: [kv_heads, pairs, rows, head_dim]."""
    kv_heads, pairs, rows, block_size = weights.shape
    block = values.index_select(1, tiles.pages).view(-1, block_size, values.shape[3])
    return torch.bmm(weights.view(-1, rows, block_size), block).view(kv_heads, pairs, rows, -1)


def _over_walks(parts: Tensor, walks: tuple[int, ...], combine: Callable[..., Tensor]) -> Tensor:
    """Combine parts [kv_heads, pairs, ...] over each tile's blocks, first block first: [kv_heads, tiles, ...]."""
    result = parts[:, : walks[0]].clone()
    end = walks[0]
    for count in walks[1:]:
        head = result[:, :count]
        combine(head, parts[:, end : end + count], out=head)
        end += count
    return result
