import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.autoscaling.counts import Counts

roles = st.builds(Counts, st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))


@given(counts=roles, most=st.integers(3, 60))
def test_scaling_down_keeps_every_role_and_the_limit(counts: Counts, most: int) -> None:
    kept = counts.within(most)
    assert kept.total == min(counts.total, most)
    assert all(bool(a) == bool(b) for a, b in zip(kept, counts, strict=True))


def test_fewer_engines_than_roles_cannot_be_had() -> None:
    with pytest.raises(ValueError, match="1 prefill \\+ 1 decode cannot be had with 1 engines"):
        Counts(prefill=1, decode=1).within(1)
