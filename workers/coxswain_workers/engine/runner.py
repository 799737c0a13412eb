"""What computes the batches of the native engine."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Protocol

from torch import Tensor

from coxswain_scheduler.batching import Entry, TokenSequence
from coxswain_workers.engine.model import Model


class Runner(Protocol):
    """A model and its KV cache. One thread calls it."""

    model: Model
    num_blocks: int
    block_size: int

    def run(self, entries: Items[Entry[TokenSequence]]) -> Tensor:
        """Compute the entries' tokens; logits [entries that sample, vocab] in float32, in their order."""
