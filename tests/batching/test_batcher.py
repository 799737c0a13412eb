"""The batcher driven as an engine would drive it, with tokens made up."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.batching import (
    Batch,
    Batcher,
    BlockPool,
    Entry,
    IntegrityError,
    Limits,
    TokenSequence,
    block_hashes,
    check_batcher,
)
from coxswain_scheduler.batching.integrity import _check_writes

BLOCK = 4


def batcher(*, blocks: int = 64, max_num_seqs: int = 8, max_step_tokens: int = 32) -> Batcher[TokenSequence]:
    limits = Limits(max_num_seqs=max_num_seqs, max_step_tokens=max_step_tokens)
    return Batcher(pool=BlockPool(size=blocks), block_size=BLOCK, limits=limits)


def sequence(name: str, prompt: int, first: int = 0) -> TokenSequence:
    return TokenSequence(name, prompt=range(first, first + prompt), block_size=BLOCK)


NAMES = ("usual", "batch", "also usual", "urgent", "later batch")


def ranked(name: str, prompt: int, rank: float) -> TokenSequence:
    """A sequence like no other."""
    it = sequence(name, prompt, first=100 * (1 + NAMES.index(name)))
    it.rank = rank
    return it


def step(it: Batcher[TokenSequence], *, ends: dict[str, int]) -> Batch[TokenSequence]:
    """One step; each sequence that samples gets a token, and leaves at the length that `ends` gives it."""
    batch = it.schedule()
    check_batcher(it, batch)
    it.commit(batch)
    check_batcher(it, batch)
    for entry in batch.entries:
        if entry.samples:
            entry.sequence.append(1000)
            if len(entry.sequence.tokens) >= ends[entry.sequence.id]:
                it.remove(entry.sequence.id)
    check_batcher(it, batch)
    return batch


def shape(batch: Batch[TokenSequence]) -> list[tuple[str, int, int, bool]]:
    return [(entry.sequence.id, entry.start, entry.count, entry.samples) for entry in batch.entries]


def test_a_long_prompt_is_computed_in_chunks_beside_decodes_that_never_wait() -> None:
    it = batcher(max_num_seqs=2, max_step_tokens=6)
    it.add(sequence("short", 3))
    ends = {"short": 8, "long": 100}
    assert shape(step(it, ends=ends)) == [("short", 0, 3, True)]
    it.add(sequence("long", 12))
    assert shape(step(it, ends=ends)) == [("short", 3, 1, True), ("long", 0, 5, False)]
    assert shape(step(it, ends=ends)) == [("short", 4, 1, True), ("long", 5, 5, False)]
    assert shape(step(it, ends=ends)) == [("short", 5, 1, True), ("long", 10, 2, True)]


def test_a_prompt_seen_before_is_not_computed_again_but_for_its_last_token() -> None:
    it = batcher()
    it.add(sequence("first", 12))
    step(it, ends={"first": 13})
    it.add(sequence("again", 12))
    assert shape(step(it, ends={"again": 13})) == [("again", 8, 4, True)]
    it.add(sequence("longer", 17))
    assert shape(step(it, ends={"longer": 18})) == [("longer", 12, 5, True)]


def test_the_youngest_gives_way_when_blocks_run_out_and_comes_back_first() -> None:
    it = batcher(blocks=4, max_num_seqs=2)
    it.add(sequence("old", 7))
    it.add(sequence("young", 7, first=50))
    ends = {"old": 13, "young": 13}
    step(it, ends=ends)
    step(it, ends=ends)
    it.add(sequence("newcomer", 1, first=90))
    batch = step(it, ends=ends)
    assert [victim.id for victim in batch.preempted] == ["young"]
    assert shape(batch) == [("old", 8, 1, True)]
    assert [waiting.id for waiting in it.waiting] == ["young", "newcomer"]
    assert it.waiting[0].computed == 0
    assert len(it.waiting[0].tokens) == 9, "its output is kept"


def test_the_integrity_check_sees_a_write_to_a_block_that_others_read() -> None:
    it = batcher()
    it.add(sequence("a", 8))
    step(it, ends={"a": 20})
    it.add(sequence("b", 8))
    batch = it.schedule()
    writer, reader = batch.entries
    writer.sequence.blocks[-1] = reader.sequence.blocks[0]
    with pytest.raises(IntegrityError):
        check_batcher(it, batch)
    writer.sequence.registered += 1
    with pytest.raises(IntegrityError, match="b writes to a block that can be reused"):
        _check_writes(it, Entry(reader.sequence, 0, 1, False))


def test_a_lower_rank_is_admitted_first_and_equals_in_order_of_arrival() -> None:
    it = batcher(max_num_seqs=1)
    for name, rank in (("usual", 0.0), ("batch", 5.0), ("also usual", 0.0), ("urgent", -1.0)):
        it.add(ranked(name, 3, rank))
    assert [one.id for one in it.waiting] == ["urgent", "usual", "also usual", "batch"]
    order: list[str] = []
    while it.has_work():
        order += [entry.sequence.id for entry in step(it, ends=dict.fromkeys(NAMES, 4)).entries]
    assert order == ["urgent", "usual", "also usual", "batch"]


def test_the_highest_rank_gives_way_before_the_youngest_and_waits_at_the_head_of_its_rank() -> None:
    it = batcher(blocks=6, max_num_seqs=3)
    for name, rank in (("usual", 0.0), ("batch", 5.0), ("also usual", 0.0)):
        it.add(ranked(name, 7, rank))
    ends = dict.fromkeys(NAMES, 13)
    step(it, ends=ends)
    step(it, ends=ends)
    it.add(ranked("later batch", 3, 5.0))
    batch = step(it, ends=ends)
    assert [victim.id for victim in batch.preempted] == ["batch"]
    assert [one.id for one in it.waiting] == ["batch", "later batch"]
    assert set(it.running) == {"usual", "also usual"}


def test_a_sequence_set_aside_keeps_its_blocks_and_goes_on_where_it_stopped() -> None:
    it = batcher()
    ends = {"a": 20, "b": 20}
    it.add(sequence("a", 6))
    it.add(sequence("b", 6, first=50))
    step(it, ends=ends)
    it.set_aside("a")
    free = it.pool.free
    assert shape(step(it, ends=ends)) == [("b", 6, 1, True)]
    assert it.pool.free == free and list(it.aside) == ["a"]
    it.resume("a")
    assert shape(step(it, ends=ends)) == [("b", 7, 1, True), ("a", 6, 1, True)]
    it.set_aside("a")
    held = len(it.aside["a"].blocks)
    free = it.pool.free
    assert it.remove("a") is not None and it.pool.free == free + held
    check_batcher(it, Batch())


def test_kv_that_comes_from_elsewhere_takes_room_but_no_budget_and_is_decoded_from_when_it_is_there() -> None:
    it = batcher(max_num_seqs=2, max_step_tokens=4)
    it.add(sequence("here", 4))
    sent = sequence("sent", 9, first=50)
    sent.arriving = 8
    it.add(sent)
    ends = {"here": 20, "sent": 20}
    batch = step(it, ends=ends)
    assert shape(batch) == [("here", 0, 4, True)]
    assert [one.id for one in batch.arriving] == ["sent"] and list(it.aside) == ["sent"]
    assert (sent.computed, len(sent.blocks), sent.registered, sent.pending) == (8, 3, 0, 1)
    assert shape(step(it, ends=ends)) == [("here", 4, 1, True)]
    assert it.pool.match(sent.hashes(2), 2).count == 0, "nobody may reuse what is not there yet"
    it.resume("sent")
    assert it.pool.match(sent.hashes(2), 2).count == 2
    assert shape(step(it, ends=ends)) == [("here", 5, 1, True), ("sent", 8, 1, True)]


def test_what_could_go_on_waits_for_a_place_where_as_many_run_as_may() -> None:
    it = batcher(max_num_seqs=1)
    ends = {"a": 20, "b": 6}
    it.add(sequence("a", 4))
    step(it, ends=ends)
    it.set_aside("a")
    it.add(sequence("b", 4, first=50))
    step(it, ends=ends)
    assert not it.resume("a") and list(it.aside) == ["a"]
    assert shape(step(it, ends=ends)) == [("b", 4, 1, True)], "which ends b"
    batch = step(it, ends=ends)
    assert [one.id for one in batch.resumed] == ["a"] and shape(batch) == [("a", 4, 1, True)]


def test_what_arrives_and_is_preempted_is_computed_here() -> None:
    it = batcher(blocks=4, max_num_seqs=2)
    it.add(sequence("old", 7))
    step(it, ends={"old": 20})
    sent = sequence("sent", 8, first=50)
    sent.arriving = 7
    it.add(sent)
    ends = {"old": 12, "sent": 20}
    step(it, ends=ends)
    it.resume("sent")
    while "sent" in it.running:
        step(it, ends=ends)
    assert it.waiting == [sent] and sent.arriving == 0
    while "sent" not in it.running:
        batch = step(it, ends=ends)
    assert shape(batch)[-1][0] == "sent" and sent.computed == sent.length - 1


def test_limits_that_would_stall_a_decode_are_refused() -> None:
    with pytest.raises(ValueError, match="max_step_tokens is 3; it must be at least max_num_seqs"):
        Limits(max_num_seqs=4, max_step_tokens=3)


@dataclass(frozen=True)
class Arrival:
    at: int
    prompt: tuple[int, ...]
    output: int


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at=st.integers(0, 20),
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=20).map(tuple),
        output=st.integers(1, 12),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=200)
@given(ARRIVALS, st.integers(8, 20), st.integers(1, 4), st.integers(4, 24))
def test_every_sequence_ends_whatever_arrives_and_however_few_blocks_there_are(
    arrivals: list[Arrival], blocks: int, max_num_seqs: int, max_step_tokens: int
) -> None:
    it = batcher(blocks=blocks, max_num_seqs=max_num_seqs, max_step_tokens=max_step_tokens)
    due = {str(index): arrival for index, arrival in enumerate(arrivals)}
    ends = {name: len(arrival.prompt) + arrival.output for name, arrival in due.items()}
    assert all(it.fits(end) for end in ends.values())
    work = sum(end + 1 for end in ends.values())
    steps = 0
    while due or it.has_work():
        for name in [name for name, arrival in due.items() if arrival.at <= steps]:
            it.add(TokenSequence(name, prompt=due.pop(name).prompt, block_size=BLOCK))
        batch = step(it, ends=ends)
        assert batch.entries or not it.has_work(), "a step with work waiting computes something"
        steps += 1
        assert steps < 21 + work * len(ends), "someone starves"
    assert it.pool.free == blocks


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=20), min_size=1, max_size=8))
def test_prefix_hits_are_those_of_a_set_of_all_prefixes_seen(prompts: list[list[int]]) -> None:
    it = batcher(blocks=200)
    seen: set[int] = set()
    for index, prompt in enumerate(prompts):
        name = str(index)
        hashes = block_hashes(prompt[:-1], block_size=BLOCK)
        expected = next((place for place, value in enumerate(hashes) if value not in seen), len(hashes)) * BLOCK
        one = TokenSequence(name, prompt=prompt, block_size=BLOCK)
        it.add(one)
        while it.has_work():
            step(it, ends={name: len(prompt) + 1})
        assert one.cached == expected
        seen |= set(block_hashes(prompt, block_size=BLOCK))
        stored, _ = it.pool.drain_events()
        assert set(stored) <= seen
        assert set(it.pool.hashes()) == seen
