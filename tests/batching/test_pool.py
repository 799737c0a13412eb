"""The block pool against a plain prefix cache that keeps every block by itself, in a list in the order of release."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coxswain_scheduler.batching import BlockPool, IntegrityError, OutOfBlocksError, TokenSequence, check_pool
from tests.batching.evicting import evictions

BLOCK = 4
SIZE = 9


def chain(digits: list[int]) -> list[int]:
    """Names of the blocks of a prompt over two tokens: equal names mean equal prefixes."""
    names: list[int] = []
    for digit in digits:
        names.append(2 * (names[-1] if names else 0) + 1 + digit)
    return names


class PlainCache:
    """Least recently released first, the end of a prefix first. Blocks have no numbers here."""

    def __init__(self, size: int) -> None:
        self.blank = size
        self.holders: dict[int, int] = {}
        self.idle: list[int] = []
        self.told: set[int] = set()

    def allocate(self, count: int) -> None:
        while self.blank < count:
            del self.holders[self.idle.pop(0)]
            self.blank += 1
        self.blank -= count

    def match(self, names: list[int]) -> int:
        return next((place for place, name in enumerate(names) if name not in self.holders), len(names))

    def hold(self, names: list[int]) -> None:
        for name in names:
            self.holders[name] += 1
            if name in self.idle:
                self.idle.remove(name)

    def register(self, names: list[int]) -> None:
        for name in names:
            if name in self.holders:
                self.blank += 1
                self.hold([name])
            else:
                self.holders[name] = 1

    def release(self, names: list[int], private: int) -> None:
        self.blank += private
        for name in reversed(names):
            self.holders[name] -= 1
            if not self.holders[name]:
                self.idle.append(name)

    def drain(self) -> tuple[set[int], set[int]]:
        before, self.told = self.told, set(self.holders)
        return self.told - before, before - self.told


def prompt(name: str, names: list[int]) -> TokenSequence:
    """A sequence whose block names are given."""
    sequence = TokenSequence(name, prompt=[0] * (len(names) * BLOCK), block_size=BLOCK)
    sequence._hashes += names
    return sequence


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=6).map(chain)


class PoolMachine(RuleBasedStateMachine):
    """Prompts come, hold what is known of them, take blocks, register them in pieces of any length, and go."""

    @initialize()
    def begin(self) -> None:
        self.pool = BlockPool(size=SIZE)
        self.model = PlainCache(SIZE)
        self.here: list[TokenSequence] = []
        self.count = 0

    @rule(names=PROMPTS)
    def start(self, names: list[int]) -> None:
        sequence = prompt(str(self.count), names)
        self.count += 1
        found = self.pool.match(names, len(names))
        assert found.count == self.model.match(names)
        assert self.pool.idle(found) == sum(name in self.model.idle for name in names[: found.count])
        sequence.tip = self.pool.hold(found)
        sequence.blocks = sequence.tip.path()
        sequence.registered = found.count
        self.model.hold(names[: found.count])
        self.here.append(sequence)

    @precondition(lambda self: self.here)
    @rule(data=st.data(), count=st.integers(0, 4))
    def grow(self, data: st.DataObject, count: int) -> None:
        sequence = data.draw(st.sampled_from(self.here))
        count = min(count, len(sequence._hashes) - len(sequence.blocks))
        if count > self.pool.free:
            free = self.pool.free
            with pytest.raises(OutOfBlocksError):
                self.pool.allocate(count)
            assert self.pool.free == free, "nothing is taken where not all can be had"
            return
        sequence.blocks += self.pool.allocate(count)
        self.model.allocate(count)

    @precondition(lambda self: any(len(one.blocks) > one.registered for one in self.here))
    @rule(data=st.data())
    def register(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from([one for one in self.here if len(one.blocks) > one.registered]))
        known = sequence.registered
        full = data.draw(st.integers(known + 1, len(sequence.blocks)))
        assert sequence.tip is not None
        sequence.tip = self.pool.register(sequence.tip, sequence._hashes, sequence.blocks, known, full)
        sequence.registered = full
        self.model.register(sequence._hashes[known:full])

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.here))
        self.here.remove(sequence)
        assert sequence.tip is not None
        private = sequence.blocks[sequence.registered :]
        self.pool.release(sequence.tip, private)
        self.model.release(sequence._hashes[: sequence.registered], len(private))

    @rule()
    def drain(self) -> None:
        stored, removed = self.pool.drain_events()
        assert (set(stored), set(removed)) == self.model.drain()
        assert len(set(stored)) == len(stored) and len(set(removed)) == len(removed)

    @invariant()
    def agrees(self) -> None:
        check_pool(self.pool, self.here)
        assert self.pool.free == self.model.blank + len(self.model.idle)
        assert set(self.pool.hashes()) == set(self.model.holders)
        assert [name for _, name in evictions(self.pool) if name is not None] == self.model.idle


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def left(first: int, second: int) -> BlockPool:
    """A pool of eight, two of them blank, with two prefixes that nobody holds any more."""
    pool = BlockPool(size=8)
    for name in (first, second):
        tip = pool.hold(pool.match([], 0))
        pool.release(pool.register(tip, [name, name + 1, name + 2], pool.allocate(3), 0, 3))
    return pool


def test_many_blocks_at_once_are_those_that_one_at_a_time_would_be() -> None:
    pool, one_by_one = left(0, 10), left(0, 10)
    foretold = [block for block, _ in evictions(pool)]
    taken = pool.allocate(7)
    assert taken == [one_by_one.allocate(1)[0] for _ in range(7)] == foretold[:7]
    assert [name for _, name in evictions(pool)] == [name for _, name in evictions(one_by_one)] == [10]


def test_the_integrity_check_sees_a_block_that_leaked() -> None:
    pool = BlockPool(size=2)
    pool.allocate(1)
    with pytest.raises(IntegrityError, match="block 0 leaked"):
        check_pool(pool, [])


def test_the_integrity_check_sees_a_block_given_twice() -> None:
    pool = BlockPool(size=2)
    one, two = (TokenSequence(name, prompt=[1], block_size=BLOCK) for name in "ab")
    one.blocks = two.blocks = pool.allocate(1)
    with pytest.raises(IntegrityError, match="block 0 is in 2 places"):
        check_pool(pool, [one, two])
