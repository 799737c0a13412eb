"""The streams of one engine: who decodes, since when, until which step, and how long they wait between two tokens."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from coxswain_scheduler.simulator.gaps import Gaps
from coxswain_scheduler.simulator.request import SimRequest, SimSequence

_SLACK: Final = 64
"""Outdated entries that the list of ends may have, however short it is."""


class Decoding:
    """Sequences that get a token in every step in which the engine decodes."""

    def __init__(self, gaps: Gaps) -> None:
        self._gaps = gaps
        self.steps = 0
        """Decode steps so far, ever."""
        self.context = 0
        """KV tokens that the next one attends to."""
        self.last_step = 0.0
        """When the last one ended."""
        self._count = 0
        self._joins = 0
        """So far: of equal ends, the one that joined first comes first."""
        self._due: list[tuple[int, int, SimSequence]] = []
        """By the step that completes them; outdated where the sequence has another end by now."""
        self._joined: list[SimSequence] = []
        """Since the last step: their last token is older than that."""

    def __bool__(self) -> bool:
        return self._count > 0

    def join(self, sequence: SimSequence, tokens: int) -> None:
        """It decodes from the next step on, until it has so many more tokens."""
        sequence.ends_at_step = self.steps + tokens
        self._joins += 1
        heappush(self._due, (sequence.ends_at_step, self._joins, sequence))
        self.context += sequence.length
        self._count += 1
        self._joined.append(sequence)

    def leave(self, sequence: SimSequence) -> None:
        """It decodes no more, though it is not complete; nothing where it did not decode."""
        if sequence.ends_at_step < 0:
            return
        self._drop(sequence)
        sequence.request.last_token = self.last_step
        if len(self._due) > 4 * self._count + _SLACK:
            self._due = [due for due in self._due if due[2].ends_at_step == due[0]]
            heapify(self._due)

    def step(self, *, end: float) -> None:
        """One step, which was another than the one before, is over."""
        self.steps += 1
        self.context += self._count
        self._gaps.add(end - self.last_step, self._count - len(self._joined))
        self._greet(end)

    def run(self, steps: int, *, first: float, seconds: float, end: float) -> None:
        """Several steps one after the other are over, which took so long; `first`: when the first of them ended."""
        self.steps += steps
        self.context += steps * self._count
        self._gaps.add(seconds / steps, steps * self._count - len(self._joined))
        if self._joined:
            self._greet(first)
        self.last_step = end

    @property
    def joined(self) -> bool:
        """Whether somebody has had no token here yet."""
        return bool(self._joined)

    def until_due(self) -> int:
        """Steps until the first of them is complete; only while there is one."""
        due = self._due
        while due[0][2].ends_at_step != due[0][0]:
            heappop(due)
        return due[0][0] - self.steps

    def take_complete(self) -> list[SimSequence]:
        """Those that are complete now, each once."""
        complete: list[SimSequence] = []
        while self._due and self._due[0][0] <= self.steps:
            step, _, sequence = heappop(self._due)
            if sequence.ends_at_step == step:
                self._drop(sequence)
                complete.append(sequence)
        return complete

    def _drop(self, sequence: SimSequence) -> None:
        sequence.ends_at_step = -1
        self.context -= sequence.length
        self._count -= 1
        if sequence in self._joined:
            self._joined.remove(sequence)

    def _greet(self, now: float) -> None:
        """Their first token here: the gap before it is their own."""
        self.last_step = now
        for sequence in self._joined:
            self.emit(sequence.request, now)
        self._joined.clear()

    def emit(self, request: SimRequest, now: float) -> None:
        """A token that is not the next of a stream here."""
        if request.first_token is None:
            request.first_token = now
        else:
            self._gaps.add(now - request.last_token, 1)
        request.last_token = now
