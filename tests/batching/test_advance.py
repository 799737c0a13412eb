"""Many decode steps at once are what as many single steps are, and no more are promised than there can be."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.batching import Batcher, BlockPool, Limits, Sequence, TokenSequence, check_batcher

BLOCK = 4


class Counted(Sequence):
    """Counts tokens, as the simulator does: prompts are named, and what is generated is like nothing else."""

    __slots__ = ("prompt_names",)

    def __init__(self, name: str, *, prompt: list[int], rank: float) -> None:
        super().__init__(name, prompt_len=len(prompt), block_size=BLOCK, rank=rank)
        self.prompt_names = [hash(tuple(prompt[:end])) & 0xFFFFFF for end in range(BLOCK, len(prompt) + 1, BLOCK)]

    def _hash(self, block: int) -> int:
        if block < len(self.prompt_names):
            return self.prompt_names[block]
        return (1 << 32) * (int(self.id) + 1) + block


class Worded(TokenSequence):
    """Has its tokens; what it generates is its own."""

    __slots__ = ()

    def __init__(self, name: str, *, prompt: list[int], rank: float) -> None:
        super().__init__(name, prompt=prompt, block_size=BLOCK)
        self.rank = rank

    def speak(self) -> None:
        """One more token, `length` excepted."""
        self.tokens.append(100 + int(self.id))


class Alike(Worded):
    """Generates what all others generate, so that blocks of one turn out to be blocks of another."""

    __slots__ = ()

    def speak(self) -> None:
        self.tokens.append(0)


@dataclass(frozen=True)
class Arrival:
    at: int
    prompt: list[int]
    output: int
    rank: float
    arriving: bool


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

    def __init__(self, kind: type[Counted] | type[Worded], blocks: int, limits: Limits) -> None:
        self.kind = kind
        self.batcher: Batcher[Any] = Batcher(pool=BlockPool(size=blocks), block_size=BLOCK, limits=limits)
        self.ends: dict[str, int] = {}

    def add(self, name: str, arrival: Arrival) -> None:
        sequence = self.kind(name, prompt=arrival.prompt, rank=arrival.rank)
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
                _speak(entry.sequence)
                entry.sequence.length += 1
        check_batcher(it, batch)
        for name in coming:
            it.resume(name)

    def finish(self) -> None:
        for sequence in list(self.batcher.running.values()):
            if sequence.length >= self.ends[sequence.id]:
                self.batcher.remove(sequence.id)

    def longest(self) -> int:
        """Steps until the first of the running ends."""
        return min((self.ends[one.id] - one.length for one in self.batcher.running.values()), default=0)


def _speak(sequence: Sequence, count: int = 1) -> None:
    if isinstance(sequence, Worded):
        for _ in range(count):
            sequence.speak()


def state(it: Batcher[Any]) -> object:
    """Everything that anybody could see of a batcher; the eviction order, with the blocks' numbers, by evicting."""
    order = []
    events = deepcopy(it.pool).drain_events()
    pool = deepcopy(it.pool)
    pool.drain_events()
    while pool.free:
        order.append((pool.allocate(1), pool.drain_events()[1]))
    return (
        [
            (one.id, one.length, one.computed, one.registered, one.blocks, one.hashes(one.registered))
            for one in it.sequences()
        ],
        list(it.running),
        [one.id for one in it.waiting],
        list(it.aside),
        sorted(it.pool.hashes()),
        order,
        tuple(map(sorted, events)),
    )


@settings(deadline=None, max_examples=100)
@given(
    kind=st.sampled_from([Counted, Worded, Alike]),
    arrivals=ARRIVALS,
    blocks=st.integers(15, 40),
    max_num_seqs=st.integers(1, 5),
    budget=st.integers(5, 24),
    data=st.data(),
)
def test_advance_equals_single_steps_and_horizon_never_promises_too_much(
    kind: type[Counted] | type[Worded],
    arrivals: list[Arrival],
    blocks: int,
    max_num_seqs: int,
    budget: int,
    data: st.DataObject,
) -> None:
    it = Drive(kind, blocks, Limits(max_num_seqs=max_num_seqs, max_step_tokens=budget))
    due = dict(enumerate(arrivals))
    clock = 0
    while due or it.batcher.has_work() or it.batcher.aside:
        for name in [name for name, arrival in due.items() if arrival.at <= clock]:
            it.add(str(name), due.pop(name))
        most = min(it.batcher.horizon(), it.longest())
        if most and not it.batcher.aside:
            steps = data.draw(st.integers(1, most))
            at_once = deepcopy(it)
            for sequence in at_once.batcher.running.values():
                _speak(sequence, steps)
            at_once.batcher.advance(steps)
            for _ in range(steps):
                it.step(only_decodes=True)
            assert state(at_once.batcher) == state(it.batcher)
            it = data.draw(st.sampled_from([it, at_once]))
            clock += steps
        else:
            it.step()
            clock += 1
        it.finish()
    assert it.batcher.pool.free == blocks


def test_horizon_is_the_number_of_steps_until_blocks_run_out() -> None:
    it = Drive(Counted, 6, Limits(max_num_seqs=2, max_step_tokens=8))
    for name in range(2):
        it.add(str(name), Arrival(0, [name] * 4, 100, 0.0, False))
    it.step()
    assert it.batcher.horizon() == 8, "two blocks each, of four tokens"
    it.batcher.advance(8)
    assert it.batcher.horizon() == 0 and it.batcher.pool.free == 0
    it.step()
    assert [one.id for one in it.batcher.waiting] == ["1"], "the step after preempts"


def test_horizon_is_nothing_where_the_next_step_prefills_or_admits() -> None:
    it = Drive(Counted, 20, Limits(max_num_seqs=2, max_step_tokens=8))
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
