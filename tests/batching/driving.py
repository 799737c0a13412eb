"""A batcher driven as an engine would drive it, with tokens made up."""

from __future__ import annotations

from coxswain_scheduler.batching import Batch, Batcher, BlockPool, Limits, TokenSequence, check_batcher

BLOCK = 4


def batcher(*, blocks: int = 64, max_num_seqs: int = 8, max_step_tokens: int = 32) -> Batcher[TokenSequence]:
    limits = Limits(max_num_seqs=max_num_seqs, max_step_tokens=max_step_tokens)
    return Batcher(pool=BlockPool(size=blocks), block_size=BLOCK, limits=limits)


def sequence(name: str, prompt: int, first: int = 0) -> TokenSequence:
    return TokenSequence(name, prompt=range(first, first + prompt), block_size=BLOCK)


def step(it: Batcher[TokenSequence], *, ends: dict[str, int]) -> Batch[TokenSequence]:
    """One step; each sequence that samples gets a token, and leaves at the length that `ends` gives it."""
    batch = it.schedule()
    check_batcher(it, batch)
    it.commit(batch)
    check_batcher(it, batch)
    for entry in batch.entries:
        if entry.samples:
            entry.sequence.append(1000)
            if len(entry.sequence.tokens) >= ends[entry.sequence.id]:
                it.remove(entry.sequence.id)
    check_batcher(it, batch)
    return batch


def shape(batch: Batch[TokenSequence]) -> list[tuple[str, int, int, bool]]:
    return [(entry.sequence.id, entry.start, entry.count, entry.samples) for entry in batch.entries]
