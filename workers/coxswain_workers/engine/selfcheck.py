"""Does a row's arithmetic depend on its neighbours here? Tried at start-up, on the model's own shapes and threads.

First every distinct linear layer is run with every row count the runner may use; then the whole model runs the same
tokens in different company (alone, many at once, in small chunks, prefilled, decoded, from the prefix cache), and the
logits must agree in every bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from torch import Tensor

from coxswain_kernels.matrices.linear import linear
from coxswain_scheduler.batching import Batcher, BlockPool, Entry, Limits, TokenSequence
from coxswain_workers.engine.model import Model, Projection
from coxswain_workers.engine.rows import BUCKETS, Rows, safe_rows
from coxswain_workers.engine.runner import Runner
from coxswain_workers.engine.torch_runner import Arrangement, TorchRunner

ATTENTION = ((2, 32), (4, 32), (8, 32), (4, 8), (8, 8), (2, 1), (4, 1), (8, 1), (16, 1))
"""Arrangements of attention to try: fewest rows of a tile, tokens of a prefill tile. Cheapest first."""

COMPANIES = ((1, 1024, 1), (1, 1024, 4), (1, 7, 2), (8, 24, 3), (32, 512, 4))
"""Ways to run the same tokens: sequences at once, tokens per step, tokens of each that are decoded."""

LENGTHS = (75, 33, 18, 6, 75, *range(5, 33))
"""Tokens per sequence; the repeated one meets the prefix cache."""


def arrange_exact(runner: TorchRunner) -> Arrangement | None:
    """The least padding under which the check holds, already set on `runner`; None when none does."""
    rows = _linear_rows(runner.model)
    if rows is None:
        return None
    body, head = rows
    for attention_rows, tile in ATTENTION:
        runner.arrangement = Arrangement(body=body, head=head, attention_rows=attention_rows, tile=tile)
        if is_exact(runner):
            return runner.arrangement
    runner.arrangement = Arrangement()
    return None


def is_exact(runner: Runner) -> bool:
    """Whether every company gives the same tokens the same logits. Uses the runner's blocks, all of them free."""
    seen: dict[tuple[int, ...], Tensor] = {}
    return all(_agrees(seen, _trace(runner, *company)) for company in COMPANIES)


def measure_step_floor(runner: Runner, *, repeats: int = 10) -> float:
    """Seconds of the fastest of some single decode steps."""
    sequence = TokenSequence("floor", prompt=[0, 0], block_size=runner.block_size)
    sequence.blocks = [0] * sequence.blocks_for(2)
    return min(_seconds(runner, Entry(sequence, 1, 1, samples=True)) for _ in range(repeats))


def _seconds(runner: Runner, entry: Entry[TokenSequence]) -> float:
    began = time.perf_counter()
    runner.run([entry]).cpu()  # which waits for a GPU to be done
    return time.perf_counter() - began


@torch.inference_mode()
def _linear_rows(model: Model) -> tuple[Rows, Rows] | None:
    """Safe row counts for the layers, and for the head."""
    body: Rows | None = Rows(high=BUCKETS[-1])
    for projection in _distinct(model):
        found = _projection_rows(projection)
        body = body.meet(found) if body and found else None
    head = _projection_rows(model.head)
    return (body, head) if body and head else None


def _distinct(model: Model) -> Iterable[Projection]:
    """One layer of each shape: kernels are chosen by shape."""
    layers = [
        projection for layer in model.layers for projection in (layer.qkv, layer.output, layer.gate_up, layer.down)
    ]
    return {(projection.weight.shape, projection.bias is None): projection for projection in layers}.values()


def _projection_rows(projection: Projection) -> Rows | None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(BUCKETS[-1], projection.weight.shape[0], generator=generator)
    return safe_rows(lambda x: linear(x, projection.weight, projection.bias), samples.to(projection.weight))


def _agrees(seen: dict[tuple[int, ...], Tensor], traced: Iterable[tuple[tuple[int, ...], Tensor]]) -> bool:
    return all(torch.equal(seen.setdefault(tokens, logits), logits) for tokens, logits in traced)


def _trace(
    runner: Runner, max_num_seqs: int, max_step_tokens: int, decoded: int
) -> Iterable[tuple[tuple[int, ...], Tensor]]:
    """(tokens, logits of the next one) as they come; the tokens are given, not chosen."""
    pool = BlockPool(size=runner.num_blocks)
    limits = Limits(max_num_seqs=max_num_seqs, max_step_tokens=max_step_tokens)
    batcher: Batcher[TokenSequence] = Batcher(pool=pool, block_size=runner.block_size, limits=limits)
    scripts = _scripts(runner, few=max_num_seqs == 1)
    for id_, script in scripts.items():
        batcher.add(TokenSequence(id_, prompt=script[: max(1, len(script) - decoded)], block_size=runner.block_size))
    while batcher.has_work():
        batch = batcher.schedule()
        rows = iter(runner.run(batch.entries))
        batcher.commit(batch)
        for sequence in [entry.sequence for entry in batch.entries if entry.samples]:
            yield tuple(sequence.tokens), next(rows)
            if len(sequence.tokens) == len(scripts[sequence.id]):
                batcher.remove(sequence.id)
            else:
                sequence.append(scripts[sequence.id][len(sequence.tokens)])


def _scripts(runner: Runner, *, few: bool) -> dict[str, list[int]]:
    """Sequences of fixed tokens, no longer than the model and the pool allow."""
    longest = min(runner.model.cos.shape[0], runner.num_blocks * runner.block_size)
    vocab = runner.model.config.vocab_size
    lengths = LENGTHS[:5] if few else LENGTHS
    return {
        str(index): [(31 * length + 7919 * place) % vocab for place in range(min(length, longest))]
        for index, length in enumerate(lengths)
    }
