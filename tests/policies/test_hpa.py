"""Scaling on a utilisation target."""

from __future__ import annotations

from collections.abc import Callable

from tests.policies.fleet import Desk

Make = Callable[..., Desk]


def loaded(desk: Make, share: float, options: str = "") -> Desk:
    """Four engines, each with this share of its KV in use."""
    work = desk("hpa:target=0.5" + options, 4)
    for _ in range(4):
        ask = work.ask(int(share * 16384) * 64)
        work.fleet.admitted(ask, emitted=0)
    return work


def test_starts_what_the_ratio_asks_for_once(desk: Make) -> None:
    work = loaded(desk, 0.75)
    work.tick(15.0)
    assert work.fleet.started == 2
    work.tick(15.0)
    assert work.fleet.started == 2


def test_does_nothing_within_the_tolerance(desk: Make) -> None:
    work = loaded(desk, 0.54)
    work.tick(15.0)
    assert (work.fleet.started, work.fleet.leaving) == (0, [])


def test_scales_down_only_when_the_wish_has_held_for_five_minutes(desk: Make) -> None:
    work = loaded(desk, 0.75, ",maximum=4")
    work.tick(15.0)
    for body in work.fleet.bodies.values():
        work.end(body.asks[0])
    work.tick(15.0)
    assert work.fleet.leaving == []
    for _ in range(20):
        work.tick(15.0)
    assert len(work.fleet.leaving) == 3


def test_keeps_to_its_limits(desk: Make) -> None:
    work = loaded(desk, 0.95, ",maximum=5")
    work.tick(15.0)
    assert work.fleet.started == 1


def test_can_count_requests_instead(desk: Make) -> None:
    work = loaded(desk, 0.01, ",metric=requests")
    for body in work.fleet.bodies.values():
        body.max_num_seqs = 1
    work.tick(15.0)
    assert work.fleet.started == 4
