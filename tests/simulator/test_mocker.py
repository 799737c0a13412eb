"""What the mocker's batcher does otherwise than ours."""

from __future__ import annotations

import pytest

from coxswain_scheduler.batching import Batch, Batcher, BlockPool, Limits, check_pool
from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.simulator.mocker import MockerBatcher, charged
from coxswain_scheduler.simulator.request import BlockNames, SimRequest, SimSequence
from coxswain_scheduler.simulator.trace import TraceRequest

BLOCK = 4
LIMITS = Limits(max_num_seqs=8, max_step_tokens=16)


def batcher(kind: type[Batcher[SimSequence]] = MockerBatcher, *, blocks: int = 16) -> Batcher[SimSequence]:
    return kind(pool=BlockPool(size=blocks), block_size=BLOCK, limits=LIMITS)


def sequence(number: int, tokens: int, *, arriving: bool = False, chunks: tuple[int, ...] = ()) -> SimSequence:
    trace = TraceRequest(id=number, arrival=0.0, prompt_tokens=tokens, output_tokens=99, chunks=chunks)
    hashes = BlockNames(chunk_tokens=BLOCK, block_size=BLOCK).of(trace)
    made = SimSequence(SimRequest(trace, arrival=0.0, hashes=hashes), block_size=BLOCK, rank=0.0)
    if arriving:
        made.arriving, made.received = tokens - 1, True
    return made


def step(engine: Batcher[SimSequence]) -> Batch[SimSequence]:
    """One step, as an engine takes it: what arrives arrives at once."""
    for one in engine.welcome():
        engine.resume(one.id)
    batch = engine.schedule()
    check_pool(engine.pool, engine.sequences())
    engine.commit(batch)
    for one in [*batch.decodes, *(entry.sequence for entry in batch.prefills if entry.samples)]:
        one.length += 1
    return batch


def test_what_arrives_goes_before_who_was_preempted() -> None:
    engine = batcher(blocks=8)
    first, second, third = (sequence(number, 16, arriving=True) for number in range(3))
    engine.add(first)
    engine.add(second)
    assert step(engine).decodes == [first, second]
    assert step(engine).preempted == [second], "all blocks are held and both need one more"
    engine.add(third)
    assert engine.waiting == [third, second]
    engine.remove(first.id)
    assert step(engine).decodes == [third]


def test_nobody_is_admitted_again_while_kv_waits_for_blocks() -> None:
    engine = batcher(blocks=8)
    first, small, large = sequence(0, 17, arriving=True), sequence(1, 2), sequence(2, 17, arriving=True)
    engine.add(first)
    step(engine)
    engine.requeue(small)
    engine.add(large)
    assert step(engine).prefills == []
    engine.remove(large.id)
    assert [entry.sequence for entry in step(engine).prefills] == [small]


def test_what_was_computed_elsewhere_costs_nothing_again_but_its_decode() -> None:
    engine = batcher()
    again, fresh = sequence(0, 6, arriving=True), sequence(1, 5)
    again.arriving = 0
    engine.add(again)
    engine.add(fresh)
    batch = step(engine)
    assert batch.prefill_tokens == 11
    assert charged(batch, Work(prefill_tokens=11, decodes=2, context=20)).amounts == (5, 0, 3, 27)


@pytest.mark.parametrize(("kind", "reused"), [(MockerBatcher, 8), (Batcher, 0)])
def test_a_block_can_be_reused_in_the_step_that_computes_it(kind: type[Batcher[SimSequence]], reused: int) -> None:
    engine = batcher(kind)
    engine.add(sequence(0, 10, chunks=(1, 2, 3)))
    engine.add(later := sequence(1, 12, chunks=(1, 2, 4)))
    engine.schedule()
    assert later.cached == reused


@pytest.mark.parametrize(("kind", "stalled"), [(MockerBatcher, 1), (Batcher, 0)])
def test_behind_a_prompt_that_takes_the_budget_nobody_decodes(kind: type[Batcher[SimSequence]], stalled: int) -> None:
    engine = batcher(kind)
    engine.add(sequence(0, 60))
    assert step(engine).prefill_tokens == 16
    engine.add(sequence(1, 3, arriving=True))
    step(engine)
    assert len(step(engine).stalled) == stalled
