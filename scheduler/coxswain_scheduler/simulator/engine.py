"""One engine in virtual time: the real batcher, and a cost model that says how long its steps take.

Steps that only decode the same sequences are taken as one run, up to the step in which the first of them ends or
blocks run out. Whatever comes up in the middle of a run cuts it at the end of the step under way, as a real engine
would only notice then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coxswain_scheduler.batching import Batch, Limits
from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.simulator.mocker import charged
from coxswain_scheduler.simulator.report import Report
from coxswain_scheduler.simulator.request import SimRequest, SimSequence
from coxswain_scheduler.simulator.setup import EngineSpec

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.simulation import Simulation


class SimEngine(Report):
    """What the simulation has an engine do."""

    def __init__(self, id: int, spec: EngineSpec, simulation: Simulation, *, since: float) -> None:  # noqa: A002
        events = simulation.caches.by_events
        super().__init__(id, spec, calendar=simulation.calendar, gaps=simulation.gaps, events=events)
        self._simulation = simulation
        self.turn = id if spec.mocker else 0
        """Whose step ends first, of those that end at one instant."""
        self.since = since
        """When it was asked for: from then on it costs."""
        self.leaving = False
        self.silent = False
        """Dead or cut off: nothing that it does from now on is heard of."""
        self.gone = False
        """Known to be dead, or left."""
        self.changed = False
        """Whether the step that just ended was another than the one before."""
        self.version = 0
        """Of the step or run under way: an end foreseen for an older one does not happen."""
        self._batch: Batch[SimSequence] | None = None
        self._departures: list[Callable[[], None]] = []

    @property
    def most_tokens(self) -> int:
        """Of one sequence, the last one being emitted and not computed."""
        return self.total_blocks * self.block_size + 1

    def limit(self, step_tokens: int) -> None:
        """Change the token budget, from the next step on."""
        limits = self.batcher.limits
        self.batcher.limits = Limits(
            max_num_seqs=limits.max_num_seqs, max_step_tokens=max(step_tokens, limits.max_num_seqs)
        )

    def cut(self) -> None:
        """Have the run under way end with the step under way; an idle engine starts."""
        if self.silent:
            return
        if not self.busy:
            self.calendar.start_soon(self)
        elif self.run_steps > (steps := self.steps_done() + 1):
            self.run_steps = steps
            self._end_at(self.run_seconds(steps))

    def between_steps(self, do: Callable[[], None]) -> None:
        """Do something when the step under way is over; at once where there is none, never where it is not heard of."""
        if not self.busy:
            do()
        elif not self.silent:
            self._departures.append(do)
            self.cut()

    def depart(self) -> None:
        """Do what was to be done between two steps."""
        departures, self._departures = self._departures, []
        for do in departures:
            do()

    def start(self) -> None:
        """Begin the next step, or run of steps; nothing when there is nothing to do."""
        if self.batcher.waiting:
            for sequence in self.batcher.welcome():
                self._simulation.handovers.fetch(self, sequence)
        steps = self.batcher.horizon()
        if steps:
            self._begin_run(min(steps, self.decoding_now.until_due()))
            return
        batch = self.batcher.schedule()
        for sequence in batch.resumed:
            self.begin_decoding(sequence)
        for sequence in batch.stalled:
            self.decoding_now.leave(sequence)
        self._note_preempted(batch)
        for sequence in batch.arriving:
            if self._simulation.handovers.fetch(self, sequence):
                batch.decodes.append(sequence)
        self._note_cached(batch)
        if batch.decodes or batch.prefills:
            self._begin_step(batch)
        elif self.batcher.ready:
            self.calendar.start_soon(self)

    def finish(self) -> tuple[list[SimSequence], list[SimRequest]]:
        """The step or run under way is over; who is complete, and who was dispatched with `hold` and is prefilled."""
        self.busy = False
        self.changed = not self.run_steps
        held: list[SimRequest] = []
        if self.run_steps:
            self._advance(self.run_steps, self.calendar.now - self.began)
            self.run_steps = self.run_decodes = 0
        else:
            held = self._finish_step(self.calendar.now)
        complete = self.decoding_now.take_complete()
        for sequence in complete:
            self.batcher.remove(sequence.id)
        return complete, held

    def begin_decoding(self, sequence: SimSequence) -> None:
        """It has its KV and decodes from the next step on; only between two steps."""
        tokens = sequence.request.output_tokens - (sequence.length - sequence.prompt_len)
        self.decoding_now.join(sequence, min(tokens, self.most_tokens - sequence.length))

    def resume(self, sequence: SimSequence) -> bool:
        """Let it decode from the next step on; only between two steps. False where it has yet to wait for a place."""
        sequence.aside = None
        if self.batcher.resume(sequence.id):
            self.begin_decoding(sequence)
            return True
        return False

    def halt(self, sequence: SimSequence) -> None:
        """Set a decoding sequence aside, between two steps."""
        self.decoding_now.leave(sequence)
        self.batcher.set_aside(sequence.id)

    def withdraw(self, sequence: SimSequence) -> None:
        """Take a sequence out at once: what the step under way computes for it is lost."""
        self.settle()
        self.decoding_now.leave(sequence)
        if self._batch is not None:
            self._batch.decodes = [one for one in self._batch.decodes if one is not sequence]
            self._batch.prefills = [entry for entry in self._batch.prefills if entry.sequence is not sequence]
            self._batch.stalled = [one for one in self._batch.stalled if one is not sequence]
        self.batcher.remove(sequence.id)
        self.cut()

    def settle(self) -> None:
        """Account for the steps of the run that are over, so that the batcher is where the engine is."""
        if steps := self.steps_done():
            seconds = self.run_seconds(steps)
            self._advance(steps, seconds)
            self.began += seconds
            self.run_steps -= steps

    def fall_silent(self) -> None:
        """What its streams have got by now is all they get from it."""
        self.settle()
        self.version += 1
        self.busy = self.silent = True
        self.run_steps = self.run_decodes = 0

    def _begin_run(self, steps: int) -> None:
        self._batch = None
        self.run_steps = steps
        self.run_decodes = len(self.batcher.running)
        self._begin(self.run_seconds(steps))

    def _begin_step(self, batch: Batch[SimSequence]) -> None:
        self._batch = batch
        pairs = sum(e.count * e.start + e.count * (e.count + 1) // 2 for e in batch.prefills)
        context = self.decoding_now.context if batch.decodes else 0
        work = Work(batch.prefill_tokens, pairs, len(batch.decodes), context)
        if self.spec.mocker:
            work = charged(batch, work)
        self._begin(self.timing.seconds(work) * self.slow)

    def _begin(self, seconds: float) -> None:
        self.began = self.calendar.now
        self.busy = True
        self._end_at(seconds)

    def _end_at(self, seconds: float) -> None:
        self.ends = self.began + seconds
        self.version += 1
        self._simulation.end_later(self)

    def _advance(self, steps: int, seconds: float) -> None:
        """Let `steps` decode steps have happened from `began` on."""
        decoding = self.decoding_now
        first = self.began + self.run_seconds(1) if decoding.joined else 0.0
        self.batcher.advance(steps)
        decoding.run(steps, first=first, seconds=seconds, end=self.began + seconds)

    def _finish_step(self, now: float) -> list[SimRequest]:
        batch = self._batch
        assert batch is not None
        self._batch = None
        self.batcher.commit(batch)
        if batch.decodes:
            for sequence in batch.decodes:
                sequence.length += 1
            self.decoding_now.step(end=now)
        for sequence in batch.stalled:
            self.begin_decoding(sequence)
        return self._finish_prefills(batch, now)

    def _finish_prefills(self, batch: Batch[SimSequence], now: float) -> list[SimRequest]:
        held: list[SimRequest] = []
        for entry in batch.prefills:
            if not entry.samples:
                continue
            sequence = entry.sequence
            if sequence.request.hold:
                self.batcher.set_aside(sequence.id)
                sequence.aside = "Held"
                held.append(sequence.request)
            else:
                self.emit_first(sequence, now)
        return held

    def emit_first(self, sequence: SimSequence, now: float) -> None:
        """The token that its prefill gives; it decodes from now on."""
        sequence.length += 1
        self.decoding_now.emit(sequence.request, now)
        self.begin_decoding(sequence)

    def _note_preempted(self, batch: Batch[SimSequence]) -> None:
        self.preemptions += len(batch.preempted)
        for sequence in batch.preempted:
            self.decoding_now.leave(sequence)
            self._simulation.abandon_migration(sequence.request)

    @staticmethod
    def _note_cached(batch: Batch[SimSequence]) -> None:
        for entry in batch.prefills:
            if entry.sequence.request.cached is None:
                entry.sequence.request.cached = entry.sequence.cached
