"""Engines kept for prompts that find no room."""

from __future__ import annotations

from coxswain_scheduler.prefilling import Clearing, Seat
from coxswain_scheduler.queueing import Job
from tests.policies.fleet import Ask
from tests.scheduler.engines import fleet


def seats(*blocks: int) -> list[Seat]:
    """Looked at just now, with room for so many blocks."""
    found = [Seat(body, {}) for body in fleet(len(blocks)).bodies.values()]
    for seat, count in zip(found, blocks, strict=True):
        seat.blocks, seat.looked = count, 0.0
    return found


def job(tokens: int) -> Job:
    return Job(Ask(1, tokens), deadline=10.0)


def test_the_engine_with_the_most_room_is_kept() -> None:
    clearing, large = Clearing(), job(6400)
    clearing.begin(large, seats(10, 40, 30), 0.0)
    assert clearing.kept == {1: large} and clearing.wanted == {1: 100}
    clearing.release(large)
    assert not clearing.kept and not clearing.wanted


def test_none_is_kept_for_what_fits_or_can_never_fit_or_may_fit_where_nobody_has_looked() -> None:
    clearing = Clearing()
    clearing.begin(job(640), seats(10, 5), 0.0)
    clearing.begin(job(64 * 1001), seats(10, 5), 0.0)
    clearing.begin(job(6400), seats(10, 5), 1.0)
    assert not clearing.kept


def test_one_of_eight_is_kept_at_most_though_always_one() -> None:
    few, many = Clearing(), Clearing()
    for tokens in (6400, 6401, 6402):
        few.begin(job(tokens), seats(*[9] * 3), 0.0)
        many.begin(job(tokens), seats(*[9] * 16), 0.0)
    assert (len(few.kept), len(many.kept)) == (1, 2)


def test_nothing_is_kept_on_an_engine_that_is_gone() -> None:
    clearing, large = Clearing(), job(6400)
    clearing.begin(large, seats(9), 0.0)
    clearing.drop(0)
    assert not clearing.kept and not clearing.wanted
