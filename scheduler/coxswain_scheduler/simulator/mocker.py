"""How the mocked engine of NVIDIA Dynamo 1.6.1 takes its steps, where that differs from ours: to reproduce its replay.

Found out from what it reports of each request. Only rows that are compared with Dynamo's use it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from coxswain_scheduler.batching import Batch, Batcher
from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.simulator.request import SimSequence


class MockerBatcher(Batcher[SimSequence]):
    """Its order of admission and its reuse of blocks.

    - KV that is to arrive gets its blocks before anything else, even those that the next tokens need; while some of it
      waits for blocks, nobody who was preempted is admitted again. Else whoever was goes before those whose KV is here.
    - Those whose KV has arrived run from the next step on that preempts nobody.
    - Running sequences share the budget in order of admission: behind a long prompt nobody decodes.
    - Blocks can be reused from the very step on that computes them.
    """

    def add(self, sequence: SimSequence) -> None:
        self.waiting.insert(bisect_right(self.waiting, _place(sequence), key=_place), sequence)

    def requeue(self, sequence: SimSequence) -> None:
        self.waiting.insert(bisect_left(self.waiting, _place(sequence), key=_place), sequence)

    def resume(self, id: str) -> bool:  # noqa: A002
        self._holdings.register(self.aside[id])
        self.ready[id] = None
        return False

    def welcome(self) -> list[SimSequence]:
        welcomed: list[SimSequence] = []
        while self.waiting and self.waiting[0].arriving and len(self.running) < self.limits.max_num_seqs:
            if (reused := self._holdings.find(self.waiting[0])) is None:
                break
            welcomed.append(self.waiting.pop(0))
            self._await_kv(welcomed[-1], reused)
        return welcomed

    def schedule(self) -> Batch[SimSequence]:
        batch: Batch[SimSequence] = Batch()
        budget = self._continue(batch)
        if not batch.preempted:
            if self.waiting and not self.waiting[0].arriving:
                budget -= self._admit(budget, batch)
            if not self.waiting or self.waiting[0].arriving or not (batch.decodes or batch.prefills):
                self._resume_ready(batch, most=self.limits.max_num_seqs if budget else 1)
                batch.decodes += batch.resumed
        return batch

    def _continue(self, batch: Batch[SimSequence]) -> int:
        """Those who run; the tokens left for others."""
        budget = self.limits.max_step_tokens
        for sequence in list(self.running.values()):
            if sequence.id not in self.running:
                continue
            count = min(sequence.pending, budget)
            if not count:
                if sequence.id not in self.prefilling:
                    batch.stalled.append(sequence)
            elif not self._make_room(sequence, count, batch):
                continue
            elif sequence.id in self.prefilling:
                self._enter(sequence, count, batch)
            else:
                batch.decodes.append(sequence)
            budget -= count
        return budget

    def _enter(self, sequence: SimSequence, count: int, batch: Batch[SimSequence]) -> None:
        super()._enter(sequence, count, batch)
        start = sequence.computed
        sequence.computed = start + count
        self._holdings.register(sequence)
        sequence.computed = start


def charged(batch: Batch[SimSequence], work: Work) -> Work:
    """What a step costs there.

    Nothing for computing again what other engines had computed, except that who decodes from then on does so in the
    very step. The mocker takes the means over a step of prompts and of what is there of them as whole numbers.
    """
    entries = [entry for entry in batch.prefills if not entry.sequence.received]
    again = [entry.sequence.length for entry in batch.prefills if entry.sequence.received and entry.samples]
    count = len(entries)
    ends = sum(entry.start + entry.count for entry in entries)
    starts = sum(entry.start for entry in entries)
    tokens = count * (ends // count - starts // count) if count else 0
    return Work(tokens, work.prefill_pairs, work.decodes + len(again), work.context + sum(again))


def _place(sequence: SimSequence) -> tuple[bool, float]:
    return not sequence.arriving, sequence.rank
