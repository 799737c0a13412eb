"""Who waits, who runs and who stands aside in one engine, and the blocks that they hold."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Generic, TypeVar

from coxswain_scheduler.batching.batch import Limits
from coxswain_scheduler.batching.holdings import Holdings
from coxswain_scheduler.batching.pool import BlockPool
from coxswain_scheduler.batching.runs import Prefix
from coxswain_scheduler.batching.sequence import Sequence

S = TypeVar("S", bound=Sequence)

RANK = attrgetter("rank")


class Members(Generic[S]):
    """The queue and the running set of one engine."""

    def __init__(self, *, pool: BlockPool, block_size: int, limits: Limits) -> None:
        self.pool = pool
        self.block_size = block_size
        self.limits = limits
        self._holdings = Holdings(pool, block_size)
        self.running: dict[str, S] = {}
        """In order of admission."""
        self.waiting: list[S] = []
        self.aside: dict[str, S] = {}
        """They hold blocks and compute nothing: their KV is on its way here, or they are to go on elsewhere."""
        self.ready: dict[str, None] = {}
        """Of those aside, the ones that run again as soon as fewer run than may, in order."""
        self.prefilling: dict[str, S] = {}
        """Of those running, the ones that do not decode yet, in the same order."""

    def fits(self, tokens: int) -> bool:
        """Whether a sequence that grows to `tokens` tokens could ever finish here."""
        return -(-tokens // self.block_size) <= self.pool.size

    def add(self, sequence: S) -> None:
        """Queue a sequence that `fits`."""
        self.waiting.insert(bisect_right(self.waiting, sequence.rank, key=RANK), sequence)

    def requeue(self, sequence: S) -> None:
        """Queue a sequence that has run, before its equals."""
        self.waiting.insert(bisect_left(self.waiting, sequence.rank, key=RANK), sequence)

    def reserve(self, sequence: S) -> bool:
        """Admit a sequence whose KV is to arrive at once, past the queue; between two steps. False without room."""
        if len(self.running) >= self.limits.max_num_seqs or (reused := self._holdings.find(sequence)) is None:
            return False
        self._await_kv(sequence, reused)
        return True

    def extend(self, sequence: S) -> bool:
        """Hold blocks for all tokens of a sequence that is aside; False where there are not enough."""
        return self._holdings.extend(sequence, sequence.length)

    def remove(self, id: str) -> S | None:  # noqa: A002
        """Take a finished or aborted sequence out and free its blocks; None when there is none of that id."""
        if sequence := self.running.pop(id, None) or self.aside.pop(id, None):
            self.ready.pop(id, None)
            self._free(sequence)
            return sequence
        for index, sequence in enumerate(self.waiting):
            if sequence.id == id:
                return self.waiting.pop(index)
        return None

    def set_aside(self, id: str) -> None:  # noqa: A002
        """Have a sequence that decodes keep its blocks and compute nothing."""
        self.aside[id] = self.running.pop(id)

    def resume(self, id: str) -> bool:  # noqa: A002
        """Run a sequence that was set aside, or whose KV has arrived and can be reused from now on.

        False where as many run as may: then it is in `Batch.resumed` of the step that has a place for it.
        """
        self.ready.pop(id, None)
        self._holdings.register(self.aside[id])
        if len(self.running) < self.limits.max_num_seqs:
            self.running[id] = self.aside.pop(id)
            return True
        self.ready[id] = None
        return False

    def has_work(self) -> bool:
        """Whether `schedule` could find anything to run."""
        return bool(self.running or self.waiting or self.ready)

    def sequences(self) -> Iterator[S]:
        """Running, then set aside, then waiting."""
        yield from self.running.values()
        yield from self.aside.values()
        yield from self.waiting

    def _await_kv(self, sequence: S, reused: Prefix) -> None:
        self._holdings.begin(sequence, reused)
        self._holdings.extend(sequence, sequence.length)
        sequence.computed = sequence.arriving
        self.aside[sequence.id] = sequence

    def _free(self, sequence: S) -> None:
        self.prefilling.pop(sequence.id, None)
        self._holdings.free(sequence)
