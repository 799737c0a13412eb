"""Engines by name: never faster than physics, never faster for more work, runs equal to their steps."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.costs.engine import EngineTiming
from coxswain_scheduler.costs.hardware import ACCELERATORS
from coxswain_scheduler.costs.model_shape import SHAPES
from coxswain_scheduler.costs.profiles import profile
from coxswain_scheduler.costs.roofline import Roofline
from coxswain_scheduler.costs.software import SOFTWARE, Software
from coxswain_scheduler.costs.timing import Work

Engine = tuple[str, str, float, int]
engines = st.tuples(
    st.sampled_from(sorted(ACCELERATORS)),
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from([2.0, 1.0]),
    st.sampled_from([1, 8]),
)
BARE = Software(name="bare")
"""Adds nothing to the hardware: whatever has more than this is slower."""


@cache
def made(engine: Engine) -> tuple[EngineTiming, Roofline]:
    """The engine and its floor."""
    device, shape, parts = ACCELERATORS[engine[0]], SHAPES[engine[1]].quantised(engine[2]), engine[3]
    return EngineTiming(shape, device, tensor_parallel=parts, software=BARE), Roofline(shape, device, parts)


@st.composite
def works(draw: st.DrawFn) -> Work:
    prompt, start = draw(st.integers(0, 20_000)), draw(st.integers(0, 100_000))
    decodes = draw(st.integers(0, 2_000))
    pairs = prompt * start + prompt * (prompt + 1) // 2
    return Work(prompt, pairs, decodes, decodes * draw(st.integers(0, 100_000)))


@settings(max_examples=150, deadline=None)
@given(engines, works())
def test_no_engine_beats_its_roofline(engine: Engine, work: Work) -> None:
    timing, floor = made(engine)
    assert timing.seconds(work) >= floor.seconds(work) * (1 - 1e-9)


@settings(max_examples=150, deadline=None)
@given(engines, works(), works())
def test_more_work_never_takes_less_time(engine: Engine, work: Work, more: Work) -> None:
    timing, _ = made(engine)
    both = Work(*(one + other for one, other in zip(work.amounts, more.amounts, strict=True)))
    assert timing.seconds(both) >= timing.seconds(work) * (1 - 1e-9)


@settings(max_examples=100, deadline=None)
@given(engines, st.integers(1, 2_000), st.integers(0, 10**7), st.integers(0, 60))
def test_a_run_lasts_as_long_as_its_steps(engine: Engine, decodes: int, context: int, steps: int) -> None:
    timing, _ = made(engine)
    expected = sum(timing.seconds(Work(decodes=decodes, context=context + step * decodes)) for step in range(steps))
    assert timing.decode_seconds(decodes, context, steps) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(engines, st.integers(1, 2_000), st.integers(0, 10**7), st.floats(0, 1000))
def test_the_most_steps_within_a_time_fit_and_one_more_does_not(
    engine: Engine, decodes: int, context: int, seconds: float
) -> None:
    timing, _ = made(engine)
    steps = timing.decode_steps(decodes, context, seconds)
    assert timing.decode_seconds(decodes, context, steps) <= seconds
    assert timing.decode_seconds(decodes, context, steps + 1) > seconds


@pytest.mark.parametrize("software", SOFTWARE.values(), ids=list(SOFTWARE))
def test_software_only_adds(software: Software) -> None:
    assert min(software.matmul, software.attention) >= 1
    assert min(software.step_seconds, software.layer_seconds, software.row_seconds) >= 0


class TestProfiles:
    def test_a_name_says_everything(self) -> None:
        plain, wide = profile("h100-llama-3-70b-fp8-tp2"), profile("h100-llama-3-70b-fp8-tp4-trtllm")
        assert (plain.gpus, wide.gpus) == (2, 4)
        assert wide.price == 2 * plain.price
        assert wide.total_blocks > 2 * plain.total_blocks
        assert wide.timing.seconds(Work(decodes=1, context=1000)) < plain.timing.seconds(Work(decodes=1, context=1000))

    def test_kv_and_weights_stay_within_the_memory(self) -> None:
        engine = profile("a100-llama-2-7b")
        used = engine.total_blocks * engine.block_size * engine.kv_bytes_per_token
        assert used + SHAPES["llama-2-7b"].bytes_per_gpu(1) < 80 * 1024**3
        assert used > 40 * 1024**3

    @pytest.mark.parametrize("name", ["l4-llama-3-8b", "a10g-llama-2-7b", "cpu-llama-3-8b", "h200-deepseek-r1-tp8"])
    def test_what_nobody_measured_says_so(self, name: str) -> None:
        assert not profile(name).validated

    @pytest.mark.parametrize("name", ["h200-qwen3-32b", "h100-llama-3-8b", "a100-llama-2-7b", "l40s-llama-3-8b"])
    def test_what_stands_on_measurements_says_so(self, name: str) -> None:
        assert profile(name).validated

    def test_the_mocked_engine_is_that_of_its_timing_file(self) -> None:
        engine = profile("mocker")
        assert (engine.total_blocks, engine.block_size, engine.step_tokens) == (16384, 64, 8192)
        assert engine.timing.seconds(Work(prefill_tokens=1000)) == pytest.approx(0.0321058, rel=1e-5)

    @pytest.mark.parametrize("name", ["h100", "h100-llama-3-8b-tp0", "h101-llama-3-8b", "h100-llama-3-8b-fp16"])
    def test_an_unknown_name_is_told_what_there_is(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"no engine profile '{name}': it is mocker, or .* h100, .*qwen3-32b"):
            profile(name)

    def test_a_model_that_does_not_fit_is_told_what_would_help(self) -> None:
        with pytest.raises(ValueError, match=r"l4-llama-3-70b: 141 GB of weights do not fit .* more GPUs"):
            profile("l4-llama-3-70b")


def test_sizes_are_those_of_the_published_models() -> None:
    billions = {name: round(shape.parameters / 1e9, 1) for name, shape in SHAPES.items()}
    assert billions == {
        "llama-2-7b": 6.7,
        "llama-3-8b": 8.0,
        "llama-3-70b": 70.6,
        "qwen3-32b": 32.8,
        "deepseek-r1": 670.9,  # 671.0 with the routers
    }
    kib = {name: shape.kv_bytes_per_token / 1024 for name, shape in SHAPES.items()}
    assert (kib["llama-3-8b"], kib["qwen3-32b"], kib["llama-3-70b"], kib["llama-2-7b"]) == (128, 256, 320, 512)
