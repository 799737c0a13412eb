"""Runs one batch on a GPU: as `TorchRunner` does, by Triton's kernels.

Rows of one token come first and are attended by the decode kernel, the others by the prefill kernel behind them. With
`invariant` every product and every attention has a plan that does not look at the batch. On CUDA devices batches that
only decode are graphs.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import torch
from torch import Tensor

from coxswain_kernels.attention import paged_decode, paged_prefill
from coxswain_kernels.attention.layout import BLOCK_SIZES, HEAD_DIMS
from coxswain_kernels.attention.pages import Pages
from coxswain_kernels.cache import kv_write
from coxswain_kernels.cache.kv_cache import KVCache
from coxswain_kernels.matrices import linear
from coxswain_scheduler.batching import Entry, TokenSequence
from coxswain_workers.engine.config import ModelConfig
from coxswain_workers.engine.decode_graphs import DecodeGraphs, Rows
from coxswain_workers.engine.model import Model, Projection


class TritonRunner:
    """A model and its KV cache on a GPU. One thread calls it."""

    def __init__(self, model: Model, *, num_blocks: int, block_size: int, invariant: bool) -> None:
        config = model.config
        self.model = model
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.invariant = invariant
        self._scale = config.head_dim**-0.5
        shape = (config.layers, num_blocks, block_size, config.kv_heads, config.head_dim)
        self.keys = model.embedding.new_zeros(shape)
        self.values = model.embedding.new_zeros(shape)
        self._graphs = DecodeGraphs(self.compute, block_size=block_size)

    @staticmethod
    def supports(config: ModelConfig, *, block_size: int) -> bool:
        """Whether there are kernels for such a model."""
        group = config.heads // config.kv_heads
        return config.head_dim in HEAD_DIMS and block_size in BLOCK_SIZES and group <= 16

    @torch.inference_mode()
    def run(self, entries: Items[Entry[TokenSequence]]) -> Tensor:
        """Compute the entries' tokens; logits [entries that sample, vocab] in float32, in their order."""
        rows = self._rows(entries)
        return self._graphs.run(rows) if self._graphs.takes(rows) else self.compute(rows)

    def compute(self, rows: Rows) -> Tensor:
        """The logits of `run`, kernel by kernel. Reads nothing on the device."""

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return self._attend(layer, rows, kv_write.Tokens(query=query, key=key, value=value, **places))

        places = {"positions": rows.positions, "slots": rows.slots}
        hidden = self.model.forward(rows.ids, attend, self._multiply)
        return self.model.logits(hidden.index_select(0, rows.samples), self._multiply).float()

    def _multiply(self, x: Tensor, projection: Projection) -> Tensor:
        run = linear.launch if self.invariant else linear.linear
        return run(x, projection.weight, projection.bias)

    def _attend(self, layer: int, rows: Rows, tokens: kv_write.Tokens) -> Tensor:
        cache = KVCache(self.keys[layer], self.values[layer])
        query = kv_write.launch(tokens, self.model.cos, self.model.sin, cache)
        out = torch.empty_like(query)
        count = rows.decodes
        if count:
            decoding = Pages(cache, rows.tables[:count], rows.contexts[:count])
            out[:count] = paged_decode.launch(
                query[:count], decoding, scale=self._scale, invariant=self.invariant, longest=rows.longest
            )
        if count < query.shape[0]:
            prefilling = Pages(cache, rows.tables[count:], rows.contexts[count:])
            out[count:] = paged_prefill.launch(
                query[count:], prefilling, rows.starts, scale=self._scale, invariant=self.invariant
            )
        return out.view(out.shape[0], -1)

    def _rows(self, entries: Items[Entry[TokenSequence]]) -> Rows:
        order = sorted(range(len(entries)), key=lambda place: entries[place].count > 1)
        last: dict[int, int] = {}
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        starts: list[int] = [0]
        size = self.block_size
        for place in order:
            entry = entries[place]
            sequence, end = entry.sequence, entry.start + entry.count
            ids += sequence.tokens[entry.start : end]
            positions += range(entry.start, end)
            slots += [sequence.blocks[at // size] * size + at % size for at in range(entry.start, end)]
            last[place] = len(ids) - 1
            if entry.count > 1:
                starts.append(starts[-1] + entry.count)
        contexts = [entries[place].start + entries[place].count for place in order]
        decodes = len(order) - len(starts) + 1
        return Rows(
            ids=self._tensor(ids),
            positions=self._tensor(positions),
            slots=self._tensor(slots),
            tables=self._tables([entries[place].sequence.blocks for place in order], contexts),
            contexts=self._tensor(contexts, torch.int32),
            starts=self._tensor(starts, torch.int32),
            samples=self._tensor([last[place] for place, entry in enumerate(entries) if entry.samples]),
            decodes=decodes,
            longest=max(contexts[:decodes], default=0),
        )

    def _tables(self, blocks: list[list[int]], contexts: list[int]) -> Tensor:
        reach = [-(-context // self.block_size) for context in contexts]
        widest = max(reach)
        rows = [held[:count] + [0] * (widest - count) for held, count in zip(blocks, reach, strict=True)]
        return self._tensor(rows, torch.int32)

    def _tensor(self, values: list[int] | list[list[int]], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.model.embedding.device)
