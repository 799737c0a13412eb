import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_crds import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0.0), ("500ms", 0.5), ("2s", 2.0), ("5m", 300.0), ("1h", 3600.0), ("999999h", 3.5999964e9)],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, seconds: float) -> None:
    assert durations.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1.5s", "-1s", "5 s", "5S", "1m30s", "01s", "5s\n", "٣s", "1000000h"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500ms"):
        durations.seconds(text)


@given(st.floats(min_value=0, max_value=999))
def test_milliseconds_round_up_by_less_than_one(value: float) -> None:
    rounded = durations.seconds(durations.milliseconds(value))
    assert value - 1e-9 <= rounded < value + 0.001 + 1e-9
