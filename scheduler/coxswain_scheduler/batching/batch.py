"""What one step of an engine holds, and how much it may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from coxswain_scheduler.batching.sequence import Sequence

S = TypeVar("S", bound=Sequence)


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


class Entry(Generic[S]):
    """`count` tokens of `sequence` from `start` on; `samples` when the last known token is among them."""

    __slots__ = ("count", "samples", "sequence", "start")

    def __init__(self, sequence: S, start: int, count: int, samples: bool) -> None:
        self.sequence = sequence
        self.start = start
        self.count = count
        self.samples = samples


class Batch(Generic[S]):
    """One step."""

    __slots__ = ("_entries", "arriving", "decodes", "preempted", "prefills", "resumed", "stalled")

    def __init__(self) -> None:
        self.decodes: list[S] = []
        """Sequences that continue by one token."""
        self.prefills: list[Entry[S]] = []
        self.preempted: list[S] = []
        self.arriving: list[S] = []
        """Admitted, to wait aside until their KV has come from elsewhere."""
        self.resumed: list[S] = []
        """They run again, having waited aside for a place."""
        self.stalled: list[S] = []
        """They decode, but have no part in this step."""
        self._entries: list[Entry[S]] | None = None

    @property
    def entries(self) -> list[Entry[S]]:
        """What to compute; decodes come before prefills. First to be asked before `commit`, and then the same."""
        if self._entries is None:
            self._entries = [Entry(sequence, sequence.computed, 1, True) for sequence in self.decodes] + self.prefills
        return self._entries

    @property
    def prefill_tokens(self) -> int:
        """Tokens of entries that do more than continue by one."""
        return sum(entry.count for entry in self.prefills)

    @property
    def context(self) -> int:
        """KV tokens attended to, over all entries."""
        return sum(entry.start + entry.count for entry in self.entries)
