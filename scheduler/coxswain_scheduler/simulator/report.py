"""What an engine reports of itself, to which policies are limited."""

from __future__ import annotations

from collections.abc import Sequence as Items

from coxswain_scheduler.batching import Batcher, BlockPool, Limits
from coxswain_scheduler.costs.timing import Timing
from coxswain_scheduler.interface import Role
from coxswain_scheduler.simulator.calendar import Calendar
from coxswain_scheduler.simulator.decoding import Decoding
from coxswain_scheduler.simulator.gaps import Gaps
from coxswain_scheduler.simulator.mocker import MockerBatcher
from coxswain_scheduler.simulator.request import SimRequest, SimSequence
from coxswain_scheduler.simulator.setup import EngineSpec


class Report:
    """Implements `interface.Engine`, over the batcher and the run of steps under way."""

    def __init__(self, id: int, spec: EngineSpec, *, calendar: Calendar, gaps: Gaps, events: bool) -> None:  # noqa: A002
        self.id = id
        self.spec = spec
        self.timing: Timing = spec.timing
        """Its cost model."""
        self.accelerator = spec.accelerator
        """What it runs on."""
        self.total_blocks = spec.total_blocks
        """Of its KV."""
        self.block_size = spec.block_size
        """Tokens in a block."""
        self.max_num_seqs = spec.max_num_seqs
        """Sequences that it runs at most."""
        self.calendar = calendar
        self._role: Role = "Serve"
        self.role_changes = 0
        self.preemptions = 0
        limits = Limits(max_num_seqs=spec.max_num_seqs, max_step_tokens=spec.step_tokens)
        pool = BlockPool(size=spec.total_blocks, events=events)
        self.batcher: Batcher[SimSequence]
        if spec.mocker:
            self.batcher = MockerBatcher(pool=pool, block_size=spec.block_size, limits=limits)
        else:
            self.batcher = Batcher(pool=pool, block_size=spec.block_size, limits=limits)
        self.decoding_now = Decoding(gaps)
        self.slow = 1.0
        """How many times as long as it should a step takes."""
        self.busy = False
        self.began = 0.0
        self.ends = 0.0
        self.run_steps = 0
        """Steps of the run under way; 0 while a single step is."""
        self.run_decodes = 0
        """Sequences that decode in the run."""

    @property
    def role(self) -> Role:
        """The policy's own note."""
        return self._role

    @role.setter
    def role(self, role: Role) -> None:
        self.role_changes += role != self._role
        self._role = role

    @property
    def running(self) -> int:
        """Sequences admitted."""
        return len(self.batcher.running)

    @property
    def waiting(self) -> int:
        """Sequences queued."""
        return len(self.batcher.waiting)

    @property
    def decoding(self) -> int:
        """Admitted sequences past their prefill."""
        return len(self.batcher.running) - len(self.batcher.prefilling)

    @property
    def pending_prefill(self) -> int:
        """Prompt tokens that it has yet to compute; a queued prompt counts whole."""
        waiting = sum(sequence.length - sequence.arriving for sequence in self.batcher.waiting)
        return waiting + sum(sequence.pending for sequence in self.batcher.prefilling.values())

    @property
    def context(self) -> int:
        """KV tokens of admitted sequences by now."""
        prefilling = sum(sequence.computed for sequence in self.batcher.prefilling.values())
        return self.decoding_now.context + self.steps_done() * self.run_decodes + prefilling

    @property
    def free_blocks(self) -> int:
        """Blocks that no sequence holds, as of the last change of the batch."""
        return self.batcher.pool.free

    @property
    def waiting_blocks(self) -> int:
        """Blocks that the queued ones will take."""
        return sum(sequence.blocks_for(sequence.length) for sequence in self.batcher.waiting)

    @property
    def requests(self) -> Items[SimRequest]:
        """Admitted and queued; those on their way to or from another engine count where they are."""
        return [one.request for one in self.batcher.sequences() if one.request.sequence is one]

    @property
    def step_tokens(self) -> int:
        """The token budget of a step."""
        return self.batcher.limits.max_step_tokens

    @property
    def busy_until(self) -> float:
        """When the step under way ends, by the cost model."""
        if not self.busy:
            return self.calendar.now
        if not self.run_steps:
            return self.ends
        return self.began + self.run_seconds(self.steps_done() + 1)

    def run_seconds(self, steps: int) -> float:
        """How long so many steps of the run under way take."""
        return self.slow * self.timing.decode_seconds(self.run_decodes, self.decoding_now.context, steps)

    def steps_done(self) -> int:
        """Steps of the run under way that are over by now."""
        passed = self.calendar.now - self.began
        if not self.run_steps or passed <= 0:
            return 0
        steps = self.timing.decode_steps(self.run_decodes, self.decoding_now.context, passed / self.slow)
        return min(self.run_steps - 1, steps)

    def steps_of(self, sequence: SimSequence) -> int:
        """Tokens that a sequence has got in the run under way."""
        return self.steps_done() if self.run_steps and sequence.id in self.batcher.running else 0
