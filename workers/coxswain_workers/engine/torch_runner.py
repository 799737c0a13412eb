"""Runs one batch on torch: lays out rows, writes keys and values to their blocks, returns logits."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from coxswain_kernels.attention.cpu.paged_attention import Span, Tiles, paged_attention, plan_tiles
from coxswain_kernels.attention.cpu.span_attention import SpanPlan, plan_span, span_attention
from coxswain_kernels.elementwise.rotary import rotary
from coxswain_kernels.matrices.linear import linear
from coxswain_scheduler.batching import Entry, TokenSequence
from coxswain_workers.engine.model import Model, Projection
from coxswain_workers.engine.rows import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """How rows are padded and cut. The default gives every operation the rows there are."""

    body: Rows = field(default_factory=Rows)
    head: Rows = field(default_factory=Rows)
    attention_rows: int = 1
    """Fewest rows of an attention tile."""
    tile: int | None = None
    """Tokens of a prefilling sequence that share a tile; None computes each such sequence by torch's fused kernel."""


class Layout(NamedTuple):
    """Where the tokens of a batch go."""

    ids: Tensor
    cos: Tensor
    sin: Tensor
    blocks: Tensor
    offsets: Tensor
    plans: list[Tiles | SpanPlan]
    samples: Tensor


class TorchRunner:
    """A model and its KV cache. One thread calls it."""

    def __init__(self, model: Model, *, num_blocks: int, block_size: int) -> None:
        config = model.config
        self.model = model
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.arrangement = Arrangement()
        self._device = model.embedding.device
        self._scale = config.head_dim**-0.5
        blocks = (config.layers, config.kv_heads, num_blocks)
        self.keys = _zeros(*blocks, config.head_dim, block_size, like=model.embedding)
        self.values = _zeros(*blocks, block_size, config.head_dim, like=model.embedding)

    @torch.inference_mode()
    def run(self, entries: Items[Entry[TokenSequence]]) -> Tensor:
        """Compute the entries' tokens; logits [entries that sample, vocab] in float32, in their order."""
        arrangement = self.arrangement
        layout = self._layout(entries)
        count = layout.blocks.shape[0]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query, key = rotary(query, layout.cos, layout.sin), rotary(key, layout.cos, layout.sin)
            keys, values = self.keys[layer], self.values[layer]
            keys[:, layout.blocks, :, layout.offsets] = key[:count]
            values[:, layout.blocks, layout.offsets] = value[:count].transpose(0, 1)
            out = torch.zeros_like(query, memory_format=torch.contiguous_format)
            for plan in layout.plans:
                self._attention(query, keys, values, plan, out)
            return out.view(out.shape[0], -1)

        def multiply(x: Tensor, projection: Projection) -> Tensor:
            return linear(x, projection.weight, projection.bias, max_rows=arrangement.body.high)

        def multiply_head(x: Tensor, projection: Projection) -> Tensor:
            return linear(x, projection.weight, projection.bias, max_rows=arrangement.head.high)

        hidden = self.model.forward(layout.ids, attend, multiply)
        samples = int((layout.samples >= 0).sum())
        chosen = hidden.index_select(0, layout.samples.clamp(min=0))
        return self.model.logits(chosen, multiply_head)[:samples].float()

    def _layout(self, entries: Items[Entry[TokenSequence]]) -> Layout:
        ids: list[int] = []
        positions: list[int] = []
        blocks: list[int] = []
        samples: list[int] = []
        decodes: list[Span] = []
        prefills: list[Span] = []
        size = self.block_size
        for entry in entries:
            sequence, start, end = entry.sequence, entry.start, entry.start + entry.count
            span = Span(row=len(ids), start=start, count=entry.count, blocks=sequence.blocks)
            (decodes if entry.count == 1 else prefills).append(span)
            ids += sequence.tokens[start:end]
            positions += range(start, end)
            blocks += [sequence.blocks[position // size] for position in range(start, end)]
            if entry.samples:
                samples.append(len(ids) - 1)
        spare = self.arrangement.body.padded(len(ids)) - len(ids)
        place = np.array(positions)
        rows = self._tensor(positions + [0] * spare)
        return Layout(
            ids=self._tensor(ids + [0] * spare),
            cos=self.model.cos.index_select(0, rows),
            sin=self.model.sin.index_select(0, rows),
            blocks=self._tensor(blocks),
            offsets=torch.from_numpy(place % size).to(self._device),
            plans=self._plans(decodes, prefills),
            samples=self._tensor(samples + [-1] * (self.arrangement.head.padded(len(samples)) - len(samples))),
        )

    def _plans(self, decodes: list[Span], prefills: list[Span]) -> list[Tiles | SpanPlan]:
        size, device, tile = self.block_size, self._device, self.arrangement.tile
        plans: list[Tiles | SpanPlan] = list(plan_tiles(decodes, tile=1, block_size=size, device=device))
        if tile is None:
            return plans + [plan_span(span, block_size=size, device=device) for span in prefills]
        return plans + list(plan_tiles(prefills, tile=tile, block_size=size, device=device))

    def _attention(self, query: Tensor, keys: Tensor, values: Tensor, plan: Tiles | SpanPlan, out: Tensor) -> None:
        if isinstance(plan, SpanPlan):
            span_attention(query, keys, values, plan, scale=self._scale, out=out)
        else:
            min_rows = self.arrangement.attention_rows
            paged_attention(query, keys, values, plan, scale=self._scale, min_rows=min_rows, out=out)

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _zeros(*shape: int, like: Tensor) -> Tensor:
    """Zeros: a block is multiplied by weights of 0 beyond its tokens, so what it holds there must be finite.

    On a CPU they are pages that the system fills in when they are first written, so blocks that no sequence reaches
    take no memory; torch would write them all.
    """
    if like.device.type == "cpu" and like.dtype == torch.float32:
        return torch.from_numpy(np.zeros(shape, dtype=np.float32))
    return like.new_zeros(shape)
