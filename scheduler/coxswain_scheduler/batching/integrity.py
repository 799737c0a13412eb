"""Does the pool still add up? Run after every step in tests, and wherever a fault in batching is suspected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import TypeVar

from coxswain_scheduler.batching.batch import Batch, Entry
from coxswain_scheduler.batching.batcher import Batcher
from coxswain_scheduler.batching.pool import BlockPool
from coxswain_scheduler.batching.sequence import Sequence

S = TypeVar("S", bound=Sequence)


class IntegrityError(AssertionError):
    """Blocks and sequences disagree: an error in this package, never in a request."""


def check_pool(pool: BlockPool, sequences: Iterable[Sequence]) -> None:
    """Every block is blank, in one run of the tree, or held by one sequence alone. Raises IntegrityError."""
    sequences = list(sequences)
    _check_places(pool, sequences)
    _check_runs(pool, sequences)
    for sequence in sequences:
        shared = sequence.tip.path() if sequence.tip is not None else []
        _require(
            sequence.blocks[: sequence.registered] == shared,
            f"{sequence.id} does not hold the blocks of the prefix it ends in",
        )
        _require(
            sequence.registered == len(shared)
            and sequence.hashes(sequence.registered)[: len(shared)] == _names(sequence),
            f"{sequence.id} holds blocks under names that are not its own",
        )


def check_batcher(batcher: Batcher[S], batch: Batch[S]) -> None:
    """The pool adds up and `batch` keeps its limits: after `schedule`, or after the step. Raises IntegrityError."""
    check_pool(batcher.pool, batcher.sequences())
    entries = batch.entries
    _require(len(batcher.running) <= batcher.limits.max_num_seqs, "too many sequences run")
    _require(sum(entry.count for entry in entries) <= batcher.limits.max_step_tokens, "the step is too large")
    _require(len({entry.sequence.id for entry in entries}) == len(entries), "a sequence runs twice")
    _require(all(not sequence.blocks for sequence in batcher.waiting), "a waiting sequence holds blocks")
    ranks = [sequence.rank for sequence in batcher.waiting]
    _require(ranks == sorted(ranks), "the queue is not in order of rank")
    for sequence in batcher.running.values():
        held = len(sequence.blocks) * sequence.block_size
        _require(sequence.computed <= held, f"{sequence.id} has computed more tokens than its blocks hold")
        _require(sequence.computed <= sequence.length, f"{sequence.id} has computed tokens that it does not have")
    for entry in entries:
        if entry.sequence.id in batcher.running and entry.sequence.computed == entry.start:
            _check_writes(batcher, entry)


def _check_places(pool: BlockPool, sequences: Items[Sequence]) -> None:
    places = Counter(pool._blank)
    places.update(block for run in pool.runs() for block in run.blocks)
    places.update(block for sequence in sequences for block in sequence.blocks[sequence.registered :])
    for block in range(pool.size):
        _require(places[block] > 0, f"block {block} leaked")
        _require(places[block] == 1, f"block {block} is in {places[block]} places")
    _require(len(places) == pool.size, "there are more blocks than the pool has")


def _check_runs(pool: BlockPool, sequences: Items[Sequence]) -> None:
    ends = Counter(id(sequence.tip) for sequence in sequences if sequence.tip is not None)
    runs, idle = list(pool.runs()), list(pool._idle)
    for run in runs:
        behind = sum(other.holders > 0 for other in run.behind.values())
        expected = ends[id(run)] + behind + (run is pool.root)
        _require(run.holders == expected, f"a run has {run.holders} holders, not {expected}")
        _require(len(run.hashes) == len(run.blocks), "a run has more names than blocks, or fewer")
        _require(bool(run.blocks) or run is pool.root, "a run is empty")
        _require((run in idle) is (run.holders == 0), "a run is both held and idle, or neither")
        for name, other in run.behind.items():
            _require(other.parent is run and other.hashes[0] == name, "a run is not found by its first name")
    names = [value for run in runs for value in run.hashes]
    _require(len(set(names)) == len(names), "a hash names two blocks")
    _require(pool._idle_blocks == sum(len(run.blocks) for run in idle), "idle blocks are miscounted")
    seen: set[int] = set()
    for run in idle:
        _require(all(id(other) in seen for other in run.behind.values()), "the end of a prefix would outlive its start")
        seen.add(id(run))


def _names(sequence: Sequence) -> list[int]:
    names: list[int] = []
    run = sequence.tip
    while run is not None:
        names[:0] = run.hashes
        run = run.parent
    return names


def _check_writes(batcher: Batcher[S], entry: Entry[S]) -> None:
    """A scheduled entry has the blocks it will write to, and has them alone."""
    size, sequence = batcher.block_size, entry.sequence
    enough = len(sequence.blocks) * size >= entry.start + entry.count
    _require(enough, f"{sequence.id} has no block to write to")
    _require(entry.start // size >= sequence.registered, f"{sequence.id} writes to a block that can be reused")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise IntegrityError(message)
