"""What runs in the next step: decodes first, then prefills, then newcomers, under a budget of tokens and blocks.

First come, first served. When a running sequence needs a block and none is free, the youngest running sequence gives
all of its blocks back, waits at the head of the queue, and is later prefilled again from its tokens (preemption by
recompute). The oldest is never the one to give way, and `Batcher.fits` keeps out what could not finish alone, so every
sequence ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from coxswain_scheduler.batching.pool import BlockPool
from coxswain_scheduler.batching.sequence import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one step may hold."""

    max_num_seqs: int
    """Sequences running at once."""
    max_step_tokens: int
    """Tokens computed in one step; at least `max_num_seqs`, so that a decode never waits."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {self.max_num_seqs}; it must be at least 1")
        if self.max_step_tokens < self.max_num_seqs:
            raise ValueError(f"max_step_tokens is {self.max_step_tokens}; it must be at least max_num_seqs")


@dataclass(frozen=True, slots=True)
class Entry:
    """`count` tokens of `sequence` from `start` on; `samples` when the last known token is among them."""

    sequence: Sequence
    start: int
    count: int
    samples: bool


@dataclass(slots=True)
class Batch:
    """One step: entries that decode (one token each) come before those that prefill."""

    entries: list[Entry] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def prefill_tokens(self) -> int:
        """Tokens of entries that do more than continue by one."""
        return sum(entry.count for entry in self.entries if entry.count > 1 or not entry.samples)

    @property
    def decode_sequences(self) -> int:
        """Entries that continue by one token."""
        return sum(entry.count == 1 and entry.samples for entry in self.entries)

    @property
    def context(self) -> int:
        """KV tokens attended to, over all entries."""
        return sum(entry.start + entry.count for entry in self.entries)


class Batcher:
    """The queue and the running set of one engine. `schedule`, run the batch, append its tokens, `commit`."""

    def __init__(self, *, pool: BlockPool, block_size: int, limits: Limits) -> None:
        self.pool = pool
        self.block_size = block_size
        self.limits = limits
        self.running: dict[str, Sequence] = {}
        """In order of admission."""
        self.waiting: deque[Sequence] = deque()

    def fits(self, tokens: int) -> bool:
        """Whether a sequence that grows to `tokens` tokens could ever finish here."""
        return -(-tokens // self.block_size) <= self.pool.size

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence that `fits`."""
        self.waiting.append(sequence)

    def remove(self, id: str) -> Sequence | None:  # noqa: A002
        """Take a finished or aborted sequence out and free its blocks; None when there is none of that id."""
        if sequence := self.running.pop(id, None):
            self._free(sequence)
            return sequence
        for sequence in self.waiting:
            if sequence.id == id:
                self.waiting.remove(sequence)
                return sequence
        return None

    def has_work(self) -> bool:
        """Whether `schedule` would find anything to run."""
        return bool(self.running or self.waiting)

    def sequences(self) -> Iterator[Sequence]:
        """Running, then waiting."""
        yield from self.running.values()
        yield from self.waiting

    def schedule(self) -> Batch:
        """Choose the next step and hold the blocks it writes to."""
        batch = Batch()
        budget = self.limits.max_step_tokens
        for wants in (self._decodes(), self._prefills()):
            for sequence in wants:
                if budget and sequence.id in self.running:
                    budget -= self._run(sequence, budget, batch)
        if not batch.preempted:
            self._admit(budget, batch)
        return batch

    def commit(self, batch: Batch) -> None:
        """Say that the batch was computed: its full blocks become reusable. Call before appending new tokens."""
        for entry in batch.entries:
            sequence = entry.sequence
            sequence.computed = entry.start + entry.count
            full = sequence.computed // self.block_size
            if full > sequence.registered:
                for index, value in enumerate(sequence.hashes(full)[sequence.registered :], sequence.registered):
                    self.pool.register(sequence.blocks[index], value)
                sequence.registered = full

    def _decodes(self) -> list[Sequence]:
        return [sequence for sequence in self.running.values() if sequence.pending == 1]

    def _prefills(self) -> list[Sequence]:
        return [sequence for sequence in self.running.values() if sequence.pending > 1]

    def _run(self, sequence: Sequence, budget: int, batch: Batch) -> int:
        """Give `sequence` up to `budget` tokens, preempting younger ones for blocks; how many it got."""
        count = min(sequence.pending, budget)
        while not self._grow(sequence, sequence.computed + count):
            victim = next(reversed(self.running.values()))
            self._preempt(victim, batch)
            if victim is sequence:
                return 0
        self._enter(sequence, count, batch)
        return count

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Hold the blocks for `tokens` tokens, all or none."""
        missing = sequence.blocks_for(tokens) - len(sequence.blocks)
        if missing > self.pool.free:
            return False
        for _ in range(missing):
            sequence.blocks.append(self.pool.allocate())
        return True

    def _preempt(self, victim: Sequence, batch: Batch) -> None:
        batch.entries = [entry for entry in batch.entries if entry.sequence is not victim]
        batch.preempted.append(victim)
        del self.running[victim.id]
        self._free(victim)
        self.waiting.appendleft(victim)

    def _admit(self, budget: int, batch: Batch) -> None:
        """Take newcomers while their whole prompt finds blocks, so that none is admitted only to be preempted."""
        while self.waiting and budget and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            reused = self.pool.match(sequence.hashes((len(sequence.tokens) - 1) // self.block_size))
            idle = sum(not self.pool.held(block) for block in reused)
            if sequence.blocks_for(len(sequence.tokens)) - len(reused) > self.pool.free - idle:
                return
            self.waiting.popleft()
            self._start(sequence, reused)
            count = min(sequence.pending, budget)
            self._grow(sequence, sequence.computed + count)
            self._enter(sequence, count, batch)
            budget -= count

    def _start(self, sequence: Sequence, reused: list[int]) -> None:
        self.pool.acquire(reused)
        sequence.blocks = reused
        sequence.registered = len(reused)
        sequence.computed = len(reused) * self.block_size
        if sequence.cached is None:
            sequence.cached = min(sequence.computed, sequence.prompt_len)
        self.running[sequence.id] = sequence

    @staticmethod
    def _enter(sequence: Sequence, count: int, batch: Batch) -> None:
        batch.entries.append(Entry(sequence, sequence.computed, count, samples=count == sequence.pending))

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(reversed(sequence.blocks))
        sequence.blocks = []
        sequence.registered = 0
        sequence.computed = 0
