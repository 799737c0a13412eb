"""Many decode steps at once are what as many single steps are, and no more are promised than there can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.batching import Batcher, BlockPool, Limits, Sequence, TokenSequence, check_batcher
from coxswain_scheduler.simulator.request import SimRequest, SimSequence
from coxswain_scheduler.simulator.trace import TraceRequest
from tests.batching.evicting import evictions

BLOCK = 4
Kind = Literal["counted", "own words", "same words"]
"""The simulator counts tokens and names prompts; an engine has them, each sequence its own, or all the same: then
blocks of one turn out to be blocks of another."""


@dataclass(frozen=True)
class Arrival:
    at: int
    prompt: list[int]
    output: int
    rank: float
    arriving: bool

    def sequence(self, name: str, kind: Kind) -> Sequence:
        if kind == "counted":
            names = [hash(tuple(self.prompt[:end])) & 0xFFFFFF for end in range(BLOCK, len(self.prompt) + 1, BLOCK)]
            trace = TraceRequest(id=int(name), arrival=0.0, prompt_tokens=len(self.prompt), output_tokens=self.output)
            return SimSequence(SimRequest(trace, arrival=0.0, hashes=names), block_size=BLOCK, rank=self.rank)
        sequence = TokenSequence(name, prompt=self.prompt, block_size=BLOCK)
        sequence.rank = self.rank
        return sequence


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at=st.integers(0, 30),
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=20),
        output=st.integers(1, 40),
        rank=st.sampled_from([0.0, 0.0, 1.0]),
        arriving=st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


class Drive:
    """A batcher under way. Sequences end at a given length; those whose KV comes are resumed a step later."""

    def __init__(self, kind: Kind, blocks: int, limits: Limits) -> None:
        self.kind = kind
        self.batcher: Batcher[Any] = Batcher(pool=BlockPool(size=blocks), block_size=BLOCK, limits=limits)
        self.ends: dict[str, int] = {}

    def add(self, name: str, arrival: Arrival) -> None:
        sequence = arrival.sequence(name, self.kind)
        if arrival.arriving:
            sequence.arriving = sequence.length - 1
        self.ends[name] = len(arrival.prompt) + arrival.output
        self.batcher.add(sequence)

    def step(self, *, only_decodes: bool = False) -> None:
        it = self.batcher
        coming = [name for name in it.aside if name not in it.ready]
        before = list(it.running)
        batch = it.schedule()
        check_batcher(it, batch)
        if only_decodes:
            assert [one.id for one in batch.decodes] == before
            assert not batch.prefills and not batch.preempted and not batch.arriving
        it.commit(batch)
        for entry in batch.entries:
            if entry.samples:
                self.speak(entry.sequence)
                entry.sequence.length += 1
        check_batcher(it, batch)
        for name in coming:
            it.resume(name)

    def speak(self, sequence: Sequence, count: int = 1) -> None:
        """More tokens, `length` excepted."""
        if isinstance(sequence, TokenSequence):
            sequence.tokens += [0 if self.kind == "same words" else 100 + int(sequence.id)] * count

    def advance(self, steps: int) -> None:
        for sequence in self.batcher.running.values():
            self.speak(sequence, steps)
        self.batcher.advance(steps)

    def finish(self) -> None:
        for sequence in list(self.batcher.running.values()):
            if sequence.length >= self.ends[sequence.id]:
                self.batcher.remove(sequence.id)

    def longest(self) -> int:
        """Steps until the first of the running ends."""
        return min((self.ends[one.id] - one.length for one in self.batcher.running.values()), default=0)


def state(it: Batcher[Any]) -> object:
    """Everything that anybody could see of a batcher. Names below zero are like no other, and only that is the same."""

    def shown(names: list[int]) -> list[int]:
        return [max(name, -1) for name in names]

    order, stored, removed = evictions(it.pool), *it.pool.drain_events()
    return (
        [
            (
                one.id,
                one.length,
                one.computed,
                one.registered,
                one.blocks,
                shown(one.hashes(one.registered)[: one.registered]),
            )
            for one in it.sequences()
        ],
        list(it.running),
        [one.id for one in it.waiting],
        list(it.aside),
        sorted(shown(list(it.pool.hashes()))),
        [(block, None if name is None else max(name, -1)) for block, name in order],
        sorted(shown(stored)),
        sorted(shown(removed)),
    )


@settings(deadline=None, max_examples=100)
@given(
    kind=st.sampled_from(["counted", "own words", "same words"]),
    arrivals=ARRIVALS,
    blocks=st.integers(15, 40),
    max_num_seqs=st.integers(1, 5),
    budget=st.integers(5, 24),
    data=st.data(),
)
def test_advance_equals_single_steps_and_horizon_never_promises_too_much(
    kind: Kind,
    arrivals: list[Arrival],
    blocks: int,
    max_num_seqs: int,
    budget: int,
    data: st.DataObject,
) -> None:
    limits = Limits(max_num_seqs=max_num_seqs, max_step_tokens=budget)
    by_steps, at_once = both = Drive(kind, blocks, limits), Drive(kind, blocks, limits)
    due = dict(enumerate(arrivals))
    clock = 0
    while due or at_once.batcher.has_work() or at_once.batcher.aside:
        for name in [name for name, arrival in due.items() if arrival.at <= clock]:
            arrival = due.pop(name)
            for it in both:
                it.add(str(name), arrival)
        most = min(at_once.batcher.horizon(), at_once.longest())
        if most and not at_once.batcher.aside:
            steps = data.draw(st.integers(1, most))
            at_once.advance(steps)
            for _ in range(steps):
                by_steps.step(only_decodes=True)
            assert state(at_once.batcher) == state(by_steps.batcher)
            clock += steps
        else:
            for it in both:
                it.step()
            clock += 1
        for it in both:
            it.finish()
    assert at_once.batcher.pool.free == by_steps.batcher.pool.free == blocks


def test_horizon_is_the_number_of_steps_until_blocks_run_out() -> None:
    it = Drive("counted", 6, Limits(max_num_seqs=2, max_step_tokens=8))
    for name in range(2):
        it.add(str(name), Arrival(0, [name] * 4, 100, 0.0, False))
    it.step()
    assert it.batcher.horizon() == 8, "two blocks each, of four tokens"
    it.batcher.advance(8)
    assert it.batcher.horizon() == 0 and it.batcher.pool.free == 0
    it.step()
    assert [one.id for one in it.batcher.waiting] == ["1"], "the step after preempts"


def test_horizon_is_nothing_where_the_next_step_prefills_or_admits() -> None:
    it = Drive("counted", 20, Limits(max_num_seqs=2, max_step_tokens=8))
    assert it.batcher.horizon() == 0
    it.add("0", Arrival(0, [0] * 12, 100, 0.0, False))
    it.step()
    assert it.batcher.prefilling and it.batcher.horizon() == 0
    it.step()
    assert it.batcher.horizon() > 0
    it.add("1", Arrival(0, [1] * 4, 100, 0.0, False))
    assert it.batcher.horizon() == 0
    it.step()
    it.add("2", Arrival(0, [1] * 4, 100, 0.0, False))
    assert it.batcher.horizon() > 0, "it cannot be admitted, there are as many as may run"
