"""Sequences that keep their blocks and compute nothing: set aside, or while their KV arrives from elsewhere."""

from __future__ import annotations

from coxswain_scheduler.batching import Batch, check_batcher
from tests.batching.driving import batcher, sequence, shape, step


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
