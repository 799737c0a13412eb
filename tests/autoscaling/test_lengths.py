import random

import numpy as np
import pytest

from coxswain_scheduler.autoscaling.lengths import Lengths


def test_the_mean_of_answers_that_ended_is_found() -> None:
    lengths, chance = Lengths(), random.Random(1)
    for _ in range(50):
        lengths.observe(live=[], ended=[round(chance.expovariate(1 / 1500)) + 1 for _ in range(100)], seconds=15)
    assert lengths.mean == pytest.approx(1500, rel=0.08)


def test_answers_under_way_count_for_what_they_have_passed() -> None:
    """None of them has ended, and still they are known to be longer than what was usual."""
    lengths = Lengths()
    for _ in range(40):
        lengths.observe(live=[], ended=[300] * 50, seconds=15)
    usual = lengths.mean
    for step in range(1, 40):
        lengths.observe(live=[step * 200] * 500, ended=[], seconds=15)
    assert lengths.mean > 3 * usual


def test_survival_falls_and_agrees_with_what_was_seen() -> None:
    lengths = Lengths()
    for _ in range(50):
        lengths.observe(live=[], ended=[100] * 50 + [4000] * 50, seconds=15)
    shares = lengths.survival(np.array([0.0, 50.0, 1000.0, 3000.0, 8000.0]))
    assert shares[0] == 1.0
    assert (np.diff(shares) <= 0).all()
    assert shares[2] == pytest.approx(0.5, abs=0.05)
    assert shares[4] < 0.05


def test_young_answers_write_at_most_what_is_asked_and_what_they_have() -> None:
    lengths = Lengths()
    for _ in range(50):
        lengths.observe(live=[], ended=[1000] * 50, seconds=15)
    assert lengths.young(100.0) == pytest.approx(100, rel=0.05)
    assert lengths.young(100_000.0) == pytest.approx(lengths.mean, rel=0.02)
