"""Batches that only decode, as CUDA graphs: one launch instead of some hundred.

A graph is of one number of rows and one longest context, so both are rounded up to powers of 2. The rows that are added
have no context and no slot: the kernels write nothing for them, and their logits are dropped. Tensors that a graph
reads lie where they lay when it was captured, and each batch is copied there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_MOST_ROWS = 256
"""Larger batches keep the device busy while the host launches."""
_LEAST_REACH = 1024
"""Tokens: graphs for less would be many, and little faster."""


class Rows(NamedTuple):
    """Where the tokens of a batch go, on the device."""

    ids: Tensor
    positions: Tensor
    slots: Tensor
    """block x block_size + offset of each token."""
    tables: Tensor
    """[entries, blocks]: those that decode first."""
    contexts: Tensor
    starts: Tensor
    """Of the prefilling entries' rows among their own."""
    samples: Tensor
    """Rows to sample from, in the order of the entries."""
    decodes: int
    longest: int
    """The most tokens that one of those that decode attends to."""


def padded(rows: Rows, *, block_size: int) -> Rows:
    """A batch that only decodes, with as many rows, and room for as many tokens, as the next power of 2."""
    size = _power_of_2(rows.decodes)
    longest = max(_power_of_2(rows.longest), _LEAST_REACH)
    spare = size - rows.decodes
    return Rows(
        ids=F.pad(rows.ids, (0, spare)),
        positions=F.pad(rows.positions, (0, spare)),
        slots=F.pad(rows.slots, (0, spare), value=-1),
        tables=F.pad(rows.tables, (0, longest // block_size - rows.tables.shape[1], 0, spare)),
        contexts=F.pad(rows.contexts, (0, spare)),
        starts=rows.starts,
        samples=F.pad(rows.samples, (0, size - rows.samples.shape[0])),
        decodes=size,
        longest=longest,
    )


class DecodeGraphs:
    """Those of one runner, captured as they are needed. One thread calls it."""

    def __init__(self, compute: Callable[[Rows], Tensor], *, block_size: int) -> None:
        self._compute = compute
        self._block_size = block_size
        self._captured: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Rows]] = {}
        self._pool: Any = None
        self._logits: Tensor | None = None

    def takes(self, rows: Rows) -> bool:
        """Whether there can be a graph of such a batch."""
        return rows.ids.is_cuda and 0 < rows.decodes == rows.ids.shape[0] <= _MOST_ROWS

    def run(self, rows: Rows) -> Tensor:
        """Logits [samples, vocab] of a batch that `takes`."""
        wide = padded(rows, block_size=self._block_size)
        graph, held = self._captured.get((wide.decodes, wide.longest)) or self._capture(wide)
        for place, part in zip(held, wide, strict=True):
            if isinstance(place, Tensor) and isinstance(part, Tensor):
                place.copy_(part)
        graph.replay()
        assert self._logits is not None
        return self._logits[: rows.samples.shape[0]].clone()

    def _capture(self, rows: Rows) -> tuple[torch.cuda.CUDAGraph, Rows]:
        # Once outside of the graph, which compiles what there is to compile, and makes the libraries' work spaces.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            logits = self._compute(rows)
        torch.cuda.current_stream().wait_stream(stream)
        if self._logits is None:
            self._logits = logits.new_empty(_MOST_ROWS, logits.shape[1])
        graph = torch.cuda.CUDAGraph()
        # One pool, and one place for the logits, for all graphs: no two are replayed at once.
        with torch.cuda.graph(graph, pool=self._pool):
            self._logits[: rows.decodes].copy_(self._compute(rows))
        self._pool = graph.pool()
        self._captured[rows.decodes, rows.longest] = graph, rows
        return graph, rows


def _power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()
