"""What runs in the next step: decodes first, then prefills, then newcomers, under a budget of tokens and blocks.

By rank, then first come, first served. When a running sequence needs a block and none is free, the running sequence of
the highest rank, among equals the youngest, gives all of its blocks back, waits at the head of its rank, and is later
prefilled again from its tokens (preemption by recompute). The oldest of the lowest rank is never the one to give way,
and `Batcher.fits` keeps out what could not finish alone, so every sequence ends.
"""

from __future__ import annotations

from coxswain_scheduler.batching.batch import Batch, Entry
from coxswain_scheduler.batching.members import RANK, Members, S


class Batcher(Members[S]):
    """The queue and the running set of one engine. `schedule`, run the batch, `commit`, append its tokens.

    Or, for as long as `horizon` says that the next steps are all alike, `advance`.
    """

    def welcome(self) -> list[S]:
        """Hold blocks for those first in the queue whose KV comes from elsewhere, which takes no step; they are aside.

        As `schedule` does, but never for blocks that the running sequences' next step may need.
        """
        welcomed: list[S] = []
        while self.waiting and self.waiting[0].arriving and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            reused = self._holdings.find(sequence)
            if reused is None or self.pool.free - sequence.blocks_for(sequence.length) < len(self.running):
                break
            del self.waiting[0]
            self._await_kv(sequence, reused)
            welcomed.append(sequence)
        return welcomed

    def schedule(self) -> Batch[S]:
        """Choose the next step and hold the blocks it writes to."""
        batch: Batch[S] = Batch()
        if self.ready:
            self._resume_ready(batch, most=self.limits.max_num_seqs)
        batch.decodes = self._with_room(self._decoding(), batch)
        budget = self.limits.max_step_tokens - len(batch.decodes)
        for sequence in list(self.prefilling.values()):
            if budget and sequence.id in self.running:
                count = min(sequence.pending, budget)
                if self._make_room(sequence, count, batch):
                    self._enter(sequence, count, batch)
                    budget -= count
        if not batch.preempted and self.waiting:
            self._admit(budget, batch)
        return batch

    def commit(self, batch: Batch[S]) -> None:
        """Say that the batch was computed: its full blocks become reusable. Call before appending new tokens."""
        size = self.block_size
        for sequence in batch.decodes:
            sequence.computed = computed = sequence.computed + 1
            if not computed % size:
                self._holdings.register(sequence)
        for entry in batch.prefills:
            entry.sequence.computed = entry.start + entry.count
            self._holdings.register(entry.sequence)
            if entry.samples:
                self.prefilling.pop(entry.sequence.id, None)

    def horizon(self) -> int:
        """How many steps from now on only decode the sequences that run now, if none of them ends and nothing is added.

        0 when the next step does something else. What waits for room stays waiting meanwhile: decoding frees none.
        (Unless a sequence generates, block by block, the very prompt that waits, which then starts a little later.)
        """
        running = self.running
        if self.prefilling or not running or ((self.waiting or self.ready) and self._startable()):
            return 0
        free = self.pool.free
        if free >= len(running):
            return free // len(running) * self.block_size
        size = self.block_size
        room = sorted(len(sequence.blocks) * size - sequence.computed for sequence in running.values())
        return room[free]

    def advance(self, steps: int) -> None:
        """Equal to `steps` times `schedule`, `commit` and one more token for each running sequence.

        `steps` is at most `horizon`. Whoever keeps tokens appends them, `length` excepted.
        """
        self._holdings.decode(self.running.values(), steps)

    def _resume_ready(self, batch: Batch[S], *, most: int) -> None:
        while self.ready and len(self.running) < self.limits.max_num_seqs and len(batch.resumed) < most:
            name = next(iter(self.ready))
            del self.ready[name]
            self.running[name] = self.aside.pop(name)
            batch.resumed.append(self.running[name])

    def _decoding(self) -> list[S]:
        if not self.prefilling:
            return list(self.running.values())
        return [sequence for sequence in self.running.values() if sequence.id not in self.prefilling]

    def _with_room(self, decodes: list[S], batch: Batch[S]) -> list[S]:
        """Those of `decodes` that have, or find, a block for the next token."""
        size = self.block_size
        short = [one for one in decodes if not one.computed % size and len(one.blocks) * size <= one.computed]
        if len(short) <= self.pool.free:
            blocks = self.pool.allocate(len(short))
            for place, sequence in enumerate(short):
                sequence.blocks.append(blocks[place])
            return decodes
        for sequence in short:
            if sequence.id in self.running:
                self._make_room(sequence, 1, batch)
        return [sequence for sequence in decodes if sequence.id in self.running]

    def _make_room(self, sequence: S, count: int, batch: Batch[S]) -> bool:
        """Hold the blocks for `count` more tokens, preempting others for them; False when it had to give way itself."""
        while True:
            if self._holdings.extend(sequence, sequence.computed + count):
                return True
            victim = self._victim()
            self._preempt(victim, batch)
            if victim is sequence:
                return False

    def _victim(self) -> S:
        return max(reversed(self.running.values()), key=RANK)

    def _preempt(self, victim: S, batch: Batch[S]) -> None:
        if victim in batch.decodes:
            batch.decodes.remove(victim)
        batch.prefills = [entry for entry in batch.prefills if entry.sequence is not victim]
        batch.preempted.append(victim)
        del self.running[victim.id]
        self._free(victim)
        victim.arriving = 0
        self.requeue(victim)

    def _startable(self) -> bool:
        """Whether the next step admits somebody."""
        if len(self.running) >= self.limits.max_num_seqs:
            return False
        return bool(self.ready) or self._holdings.find(self.waiting[0]) is not None

    def _admit(self, budget: int, batch: Batch[S]) -> int:
        """Take newcomers while their whole prompt finds blocks, so that none is admitted only to be preempted.

        How much of the budget they take.
        """
        left = budget
        while self.waiting and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            if not left and not sequence.arriving:
                break
            if (reused := self._holdings.find(sequence)) is None:
                break
            del self.waiting[0]
            if sequence.arriving:
                self._await_kv(sequence, reused)
                batch.arriving.append(sequence)
                continue
            self._holdings.begin(sequence, reused)
            self.running[sequence.id] = sequence
            self.prefilling[sequence.id] = sequence
            count = min(sequence.pending, left)
            self._holdings.extend(sequence, sequence.computed + count)
            self._enter(sequence, count, batch)
            left -= count
        return budget - left

    def _enter(self, sequence: S, count: int, batch: Batch[S]) -> None:
        batch.prefills.append(Entry(sequence, sequence.computed, count, samples=count == sequence.pending))
