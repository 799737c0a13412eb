import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.autoscaling.counts import Counts, steps

roles = st.builds(Counts, st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))


def test_a_role_change_comes_before_a_start() -> None:
    found = steps(Counts(prefill=4, decode=4), Counts(prefill=2, decode=7))
    assert found.to_decode == 2
    assert found.start == Counts(decode=1)
    assert found.stop == Counts()


@given(current=roles, wanted=roles)
def test_steps_lead_from_one_to_the_other(current: Counts, wanted: Counts) -> None:
    found = steps(current, wanted)
    assert current.prefill - found.to_decode + found.start.prefill - found.stop.prefill == wanted.prefill
    assert current.decode + found.to_decode + found.start.decode - found.stop.decode == wanted.decode
    assert current.serve + found.start.serve - found.stop.serve == wanted.serve
    assert not (found.start.decode and found.stop.prefill)
    assert not (found.start.prefill and found.stop.decode)


@given(counts=roles, most=st.integers(3, 60))
def test_scaling_down_keeps_every_role_and_the_limit(counts: Counts, most: int) -> None:
    kept = counts.within(most)
    assert kept.total == min(counts.total, most)
    assert all(bool(a) == bool(b) for a, b in zip(kept, counts, strict=True))


def test_fewer_engines_than_roles_cannot_be_had() -> None:
    with pytest.raises(ValueError, match="1 prefill \\+ 1 decode cannot be had with 1 engines"):
        Counts(prefill=1, decode=1).within(1)
