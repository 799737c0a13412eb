"""Does the pool still add up? Run after every step in tests, and wherever a fault in batching is suspected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from coxswain_scheduler.batching.batcher import Batch, Batcher, Entry
from coxswain_scheduler.batching.pool import BlockPool
from coxswain_scheduler.batching.sequence import Sequence


class IntegrityError(AssertionError):
    """Blocks and sequences disagree: an error in this package, never in a request."""


def check_pool(pool: BlockPool, sequences: Iterable[Sequence]) -> None:
    """Every block is held exactly as often as `sequences` say, or is free in one place. Raises IntegrityError."""
    holders = Counter(block for sequence in sequences for block in sequence.blocks)
    blank, reusable = pool._blank, pool._reusable
    _require(len(set(blank)) == len(blank), "a block is blank twice")
    _require(not set(blank) & set(reusable), "a block is both blank and reusable")
    for block in range(pool.size):
        free = (block in reusable) + (block in blank)
        _require(
            pool._holders[block] == holders[block],
            f"block {block} has {pool._holders[block]} holders, not {holders[block]}",
        )
        _require(free == (not holders[block]), f"block {block} is both held and free, or neither")
    for value, block in pool._block_of.items():
        _require(pool._hash_of[block] == value, f"block {block} does not know its hash")
    named = sum(value is not None for value in pool._hash_of)
    _require(named == len(pool._block_of), "a block has a hash that nobody can find it by")
    _require(all(pool._hash_of[block] is not None for block in reusable), "a reusable block has no hash")
    _require(all(pool._hash_of[block] is None for block in blank), "a blank block has a hash")


def check_batcher(batcher: Batcher, batch: Batch) -> None:
    """The pool adds up and `batch` keeps its limits: after `schedule`, or after the step. Raises IntegrityError."""
    check_pool(batcher.pool, batcher.sequences())
    _require(len(batcher.running) <= batcher.limits.max_num_seqs, "too many sequences run")
    _require(sum(entry.count for entry in batch.entries) <= batcher.limits.max_step_tokens, "the step is too large")
    _require(len({entry.sequence.id for entry in batch.entries}) == len(batch.entries), "a sequence runs twice")
    _require(all(not sequence.blocks for sequence in batcher.waiting), "a waiting sequence holds blocks")
    for sequence in batcher.running.values():
        held = len(sequence.blocks) * sequence.block_size
        _require(sequence.computed <= held, f"{sequence.id} has computed more tokens than its blocks hold")
        _require(sequence.computed <= len(sequence.tokens), f"{sequence.id} has computed tokens that it does not have")
    for entry in batch.entries:
        if entry.sequence.id in batcher.running and entry.sequence.computed == entry.start:
            _check_writes(batcher, entry)


def _check_writes(batcher: Batcher, entry: Entry) -> None:
    """A scheduled entry has the blocks it will write to, and has them alone."""
    size = batcher.block_size
    writes = entry.sequence.blocks[entry.start // size : -(-(entry.start + entry.count) // size)]
    enough = len(entry.sequence.blocks) * size >= entry.start + entry.count
    _require(enough, f"{entry.sequence.id} has no block to write to")
    alone = all(batcher.pool._holders[block] == 1 for block in writes)
    _require(alone, f"{entry.sequence.id} writes to a block that another sequence reads")
    blank = all(batcher.pool._hash_of[block] is None for block in writes)
    _require(blank, f"{entry.sequence.id} writes to a block that can be reused")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise IntegrityError(message)
