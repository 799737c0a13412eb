"""One engine in virtual time: the real batcher, and a cost model that says how long its steps take.

Steps that only decode the same sequences are taken as one run, up to the step in which the first of them ends or
blocks run out. Whatever comes up in the middle of a run cuts it at the end of the step under way, as a real engine
would only notice then.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from coxswain_scheduler.batching import Batch, Batcher, BlockPool, Limits
from coxswain_scheduler.costs.timing import Timing, Work
from coxswain_scheduler.policies.interface import Role
from coxswain_scheduler.simulator.request import SimRequest, SimSequence
from coxswain_scheduler.simulator.setup import EngineSpec

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.simulation import Simulation


class SimEngine:
    """Implements `policies.interface.Engine`; the simulation calls the rest."""

    def __init__(self, id: int, spec: EngineSpec, simulation: Simulation) -> None:  # noqa: A002
        self.id = id
        self.spec = spec
        self._role: Role = "Serve"
        self.role_changes = 0
        self.simulation = simulation
        self.slow = 1.0
        self.leaving = False
        self.silent = False
        """Dead or cut off: nothing that it does from now on is heard of."""
        self.changed = False
        """Whether the step that just ended was another than the one before."""
        self.preemptions = 0
        self.version = 0
        """Of the step or run under way: an end foreseen for an older one does not happen."""
        self.since = simulation.now
        """When it was asked for: from then on it costs."""
        limits = Limits(max_num_seqs=spec.max_num_seqs, max_step_tokens=spec.step_tokens)
        pool = BlockPool(size=spec.total_blocks, events=simulation.setup.kv_event_lag_seconds is not None)
        self.batcher: Batcher[SimSequence] = Batcher(pool=pool, block_size=spec.block_size, limits=limits)
        self.busy = False
        self.began = 0.0
        self.ends = 0.0
        self._batch: Batch[SimSequence] | None = None
        self._run = 0
        """Steps of the run under way; 0 while a single step is."""
        self._decodes = 0
        """Sequences that decode in the run."""
        self._steps = 0
        """Decode steps so far, ever."""
        self._context = 0
        """KV tokens of decoding sequences, the token that is computed next included."""
        self._due: list[tuple[int, int, SimSequence]] = []
        """Decoding sequences by the step that completes them."""
        self._joined: list[SimSequence] = []
        """Decoding since the last step: their last token is older than that."""
        self.departures: list[SimSequence] = []
        """They leave at the end of the step under way."""
        self._last_step = 0.0

    # What a policy sees

    @property
    def role(self) -> Role:
        return self._role

    @role.setter
    def role(self, role: Role) -> None:
        self.role_changes += role != self._role
        self._role = role

    @property
    def timing(self) -> Timing:
        return self.spec.timing

    @property
    def accelerator(self) -> str:
        return self.spec.accelerator

    @property
    def total_blocks(self) -> int:
        return self.spec.total_blocks

    @property
    def block_size(self) -> int:
        return self.spec.block_size

    @property
    def max_num_seqs(self) -> int:
        return self.spec.max_num_seqs

    @property
    def running(self) -> int:
        return len(self.batcher.running)

    @property
    def waiting(self) -> int:
        return len(self.batcher.waiting)

    @property
    def decoding(self) -> int:
        return len(self.batcher.running) - len(self.batcher.prefilling)

    @property
    def pending_prefill(self) -> int:
        waiting = sum(sequence.length - max(sequence.arriving, 0) for sequence in self.batcher.waiting)
        return waiting + sum(self.batcher.running[name].pending for name in self.batcher.prefilling)

    @property
    def context(self) -> int:
        prefilling = sum(self.batcher.running[name].computed for name in self.batcher.prefilling)
        return self._context + self._steps_done() * self._decodes + prefilling

    @property
    def free_blocks(self) -> int:
        return self.batcher.pool.free

    @property
    def waiting_blocks(self) -> int:
        return sum(sequence.blocks_for(sequence.length) for sequence in self.batcher.waiting)

    @property
    def requests(self) -> Items[SimRequest]:
        return [sequence.request for sequence in self.batcher.sequences()]

    @property
    def step_tokens(self) -> int:
        return self.batcher.limits.max_step_tokens

    @property
    def busy_until(self) -> float:
        if not self.busy:
            return self.simulation.now
        if not self._run:
            return self.ends
        return self.began + self.slow * self.timing.decode_seconds(self._decodes, self._context, self._steps_done() + 1)

    # What the simulation does

    def limit(self, step_tokens: int) -> None:
        """Change the token budget, from the next step on."""
        limits = self.batcher.limits
        self.batcher.limits = Limits(
            max_num_seqs=limits.max_num_seqs, max_step_tokens=max(step_tokens, limits.max_num_seqs)
        )

    def steps_of(self, sequence: SimSequence) -> int:
        """Tokens that a sequence has got in the run under way."""
        return self._steps_done() if self._run and sequence.id in self.batcher.running else 0

    def cut(self) -> None:
        """Have the run under way end with the step under way; an idle engine starts."""
        if self.silent:
            return
        if not self.busy:
            self.simulation.start_soon(self)
        elif self._run > (steps := self._steps_done() + 1):
            self._run = steps
            self._end_at(self.timing.decode_seconds(self._decodes, self._context, steps))

    def start(self) -> None:
        """Begin the next step, or run of steps; nothing when there is nothing to do."""
        steps = self.batcher.horizon()
        if steps and self._due:
            self._begin_run(min(steps, self._next_due() - self._steps))
            return
        batch = self.batcher.schedule()
        self.preemptions += len(batch.preempted)
        for sequence in batch.preempted:
            self._stop_decoding(sequence, gone=True)
        for sequence in batch.arriving:
            if self.simulation.fetch(self, sequence):
                batch.decodes.append(sequence)
        self._note_cached(batch)
        if batch.decodes or batch.prefills:
            self._begin_step(batch)

    def finish(self) -> tuple[list[SimRequest], list[SimRequest]]:
        """The step or run under way is over; who has ended, and who was dispatched with `hold` and is prefilled."""
        now = self.simulation.now
        self.busy = False
        if self._run:
            self._finish_run(now)
            self.changed = False
            held: list[SimRequest] = []
        else:
            held = self._finish_step(now)
            self.changed = True
        return self._take_complete(now), held

    def begin_decoding(self, sequence: SimSequence) -> None:
        """It has its KV and decodes from the next step on."""
        sequence.ends_at_step = self._steps + sequence.request.output_tokens - (sequence.length - sequence.prompt_len)
        heappush(self._due, (sequence.ends_at_step, sequence.request.id, sequence))
        self._context += sequence.computed + 1
        self._joined.append(sequence)

    def withdraw(self, sequence: SimSequence) -> None:
        """Take a sequence out at once: what the step under way computes for it is lost."""
        self._settle_run()
        if self._run:
            self.cut()
        self._stop_decoding(sequence)
        if self._batch is not None:
            if sequence in self._batch.decodes:
                self._batch.decodes.remove(sequence)
            self._batch.prefills = [entry for entry in self._batch.prefills if entry.sequence is not sequence]
        self.batcher.remove(sequence.id)

    def halt(self, sequence: SimSequence) -> None:
        """Set a decoding sequence aside, between two steps."""
        self._stop_decoding(sequence)
        self.batcher.set_aside(sequence.id)

    def _begin_run(self, steps: int) -> None:
        self._batch = None
        self._run = steps
        self._decodes = len(self.batcher.running)
        self.began = self.simulation.now
        self.busy = True
        self._end_at(self.timing.decode_seconds(self._decodes, self._context, steps))

    def _begin_step(self, batch: Batch[SimSequence]) -> None:
        self._batch = batch
        self._run = 0
        self._decodes = 0
        self.began = self.simulation.now
        self.busy = True
        pairs = sum(e.count * e.start + e.count * (e.count + 1) // 2 for e in batch.prefills)
        context = self._context if batch.decodes else 0
        work = Work(batch.prefill_tokens, pairs, len(batch.decodes), context)
        self._end_at(self.timing.seconds(work))

    def _end_at(self, seconds: float) -> None:
        self.ends = self.began + seconds * self.slow
        self.version += 1
        self.simulation.end_later(self)

    def _steps_done(self) -> int:
        """Steps of the run under way that are over by now."""
        if not self._run:
            return 0
        passed = (self.simulation.now - self.began) / self.slow
        return min(self._run - 1, self.timing.decode_steps(self._decodes, self._context, passed)) if passed > 0 else 0

    def _settle_run(self) -> None:
        """Account for the steps of the run that are over, so that the batcher is where the engine is."""
        steps = self._steps_done()
        if steps:
            seconds = self.timing.decode_seconds(self._decodes, self._context, steps) * self.slow
            self._advance(steps, seconds)
            self.began += seconds
            self._run -= steps

    def _advance(self, steps: int, seconds: float) -> None:
        """Let `steps` decode steps have happened from `began` on."""
        end = self.began + seconds
        self.batcher.advance(steps)
        self._steps += steps
        decodes = len(self.batcher.running)
        self._context += steps * decodes
        each = seconds / steps
        self.simulation.gaps.add(each, steps * decodes - len(self._joined))
        self._greet(self.began + each)
        self._last_step = end

    def _finish_run(self, now: float) -> None:
        self._advance(self._run, now - self.began)
        self._run = 0

    def _finish_step(self, now: float) -> list[SimRequest]:
        batch = self._batch
        assert batch is not None
        self._batch = None
        self.batcher.commit(batch)
        if batch.decodes:
            for sequence in batch.decodes:
                sequence.length += 1
            self._steps += 1
            self._context += len(batch.decodes)
            self.simulation.gaps.add(now - self._last_step, len(batch.decodes) - len(self._joined))
            self._greet(now)
            self._last_step = now
        return self._finish_prefills(batch, now)

    def _finish_prefills(self, batch: Batch[SimSequence], now: float) -> list[SimRequest]:
        held: list[SimRequest] = []
        for entry in batch.prefills:
            if not entry.samples:
                continue
            sequence = entry.sequence
            request = sequence.request
            if request.hold:
                self.batcher.set_aside(sequence.id)
                held.append(request)
                continue
            sequence.length += 1
            self._emit_first(request, now)
            self.begin_decoding(sequence)
        return held

    def _greet(self, now: float) -> None:
        """Their first token here: the gap before it is their own."""
        for sequence in self._joined:
            self._emit_first(sequence.request, now)
        self._joined.clear()

    def _emit_first(self, request: SimRequest, now: float) -> None:
        if request.first_token is None:
            request.first_token = now
        else:
            self.simulation.gaps.add(now - request.last_token, 1)
        request.last_token = now

    def _take_complete(self, now: float) -> list[SimRequest]:
        ended: list[SimRequest] = []
        while self._due and self._due[0][0] <= self._steps:
            step, _, sequence = heappop(self._due)
            if sequence.ends_at_step == step:
                self._context -= sequence.computed + 1
                self.batcher.remove(sequence.id)
                sequence.ends_at_step = -1
                ended.append(sequence.request)
                if sequence in self._joined:
                    self._joined.remove(sequence)
        return ended

    def _next_due(self) -> int:
        while self._due[0][2].ends_at_step != self._due[0][0]:
            heappop(self._due)
        return self._due[0][0]

    def _stop_decoding(self, sequence: SimSequence, *, gone: bool = False) -> None:
        """`gone`: the batcher has already taken its blocks, and with them the count of what was computed."""
        if sequence.ends_at_step < 0:
            return
        sequence.ends_at_step = -1
        self._context -= sequence.length if gone else sequence.computed + 1
        sequence.request.last_token = self._last_step
        if sequence in self._joined:
            self._joined.remove(sequence)
        if len(self._due) > 4 * len(self.batcher.running) + 64:
            self._due = [due for due in self._due if due[2].ends_at_step == due[0]]
            heapify(self._due)

    @staticmethod
    def _note_cached(batch: Batch[SimSequence]) -> None:
        for entry in batch.prefills:
            if entry.sequence.request.cached is None:
                entry.sequence.request.cached = entry.sequence.cached
