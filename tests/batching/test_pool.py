"""The block pool against a model that keeps nothing but a list in the order of release."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coxswain_scheduler.batching import BlockPool, IntegrityError, OutOfBlocksError, TokenSequence, check_pool


class PoolMachine(RuleBasedStateMachine):
    """Sequences come, grow, register their blocks under hashes drawn from few, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(size=5)
        self.sequences: list[TokenSequence] = []
        self.reusable: set[int] = set()
        self.released: list[int] = []

    @rule()
    def start(self) -> None:
        self.sequences.append(TokenSequence(str(len(self.sequences)), prompt=[1], block_size=4))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        if not self.pool.free:
            with pytest.raises(OutOfBlocksError):
                self.pool.allocate()
            return
        before = set(self.pool.hashes())
        sequence.blocks.append(self.pool.allocate())
        evicted = before - set(self.pool.hashes())
        assert evicted <= set(self.released[:1]), "evicts the least recently released only"
        self.released = [value for value in self.released if value not in evicted]

    @precondition(lambda self: any(sequence.blocks for sequence in self.sequences))
    @rule(value=st.integers(0, 7), data=st.data())
    def register(self, value: int, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from([sequence for sequence in self.sequences if sequence.blocks]))
        if self.pool._hash_of[sequence.blocks[-1]] is None:
            self.pool.register(sequence.blocks[-1], value)
            assert self.pool.match([value])

    @rule(values=st.lists(st.integers(0, 7), max_size=3, unique=True))
    def reuse(self, values: list[int]) -> None:
        known = set(self.pool.hashes())
        blocks = self.pool.match(values)
        expected = next((index for index, value in enumerate(values) if value not in known), len(values))
        assert len(blocks) == expected
        self.pool.acquire(blocks)
        self.released = [value for value in self.released if value not in values[:expected]]
        sequence = TokenSequence(str(len(self.sequences)), prompt=[1], block_size=4)
        sequence.blocks = blocks
        self.sequences.append(sequence)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        self.sequences.remove(sequence)
        self.pool.release(reversed(sequence.blocks))
        for block in reversed(sequence.blocks):
            value = self.pool._hash_of[block]
            if value is not None and not self.pool.held(block):
                self.released.append(value)

    @rule()
    def drain(self) -> None:
        stored, removed = self.pool.drain_events()
        assert not set(stored) & set(removed)
        self.reusable = (self.reusable | set(stored)) - set(removed)
        assert self.reusable == set(self.pool.hashes())

    @invariant()
    def adds_up(self) -> None:
        check_pool(self.pool, self.sequences)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_the_integrity_check_sees_a_block_that_leaked() -> None:
    pool = BlockPool(size=2)
    pool.allocate()
    with pytest.raises(IntegrityError, match="block 0 has 1 holders, not 0"):
        check_pool(pool, [])


def test_the_integrity_check_sees_a_block_given_twice() -> None:
    pool = BlockPool(size=2)
    one, two = (TokenSequence(name, prompt=[1], block_size=4) for name in "ab")
    one.blocks = two.blocks = [pool.allocate()]
    with pytest.raises(IntegrityError, match="block 0 has 1 holders, not 2"):
        check_pool(pool, [one, two])
