"""Choosing tokens from logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_protocol.messages import Sampling
from coxswain_workers.engine.noise import uniform
from coxswain_workers.engine.sampler import Choice, sample

EOS = (2,)


def choice(*, prompt: list[int] | None = None, output: list[int] | None = None, **sampling: Any) -> Choice:
    prompt, output = prompt or [1], output or []
    return Choice(Sampling(**{"seed": 0, "temperature": 0.0, **sampling}), [*prompt, *output], len(prompt), EOS)


def pick(logits: list[float], one: Choice) -> int:
    return sample(np.array([logits], dtype=np.float32), [one])[0][0]


def frequencies(logits: list[float], *, draws: int = 4000, **sampling: Any) -> list[float]:
    """How often each token is drawn over many seeds."""
    rows = np.tile(np.array(logits, dtype=np.float32), (draws, 1))
    tokens, _ = sample(rows, [choice(**{"temperature": 1.0, **sampling, "seed": seed}) for seed in range(draws)])
    return list(np.bincount(tokens, minlength=len(logits)) / draws)


def test_greedy_takes_the_highest_and_of_equals_the_lowest_id() -> None:
    assert pick([0.0, 3.0, 1.0, 3.0], choice()) == 1


def test_draws_follow_the_softmax_of_logits_over_temperature() -> None:
    logits = [0.0, 1.0, 2.0, -1.0]
    for temperature in (0.5, 1.0, 2.0):
        expected = np.exp(np.array(logits) / temperature)
        got = frequencies(logits, temperature=temperature)
        np.testing.assert_allclose(got, expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"min_p": 0.5}, {0, 1}),
        ({"top_k": 2, "top_p": 0.6}, {0}),
        ({"top_k": 99}, {0, 1, 2, 3}),
    ],
)
def test_truncation_keeps_the_likeliest(sampling: dict[str, Any], kept: set[int]) -> None:
    # 0.5, 0.3, 0.1 + a bit, the rest: top_k = 2 leaves 0.625 and 0.375, so top_p = 0.6 of that leaves one.
    logits = np.log([0.5, 0.3, 0.11, 0.09]).tolist()
    drawn = frequencies(logits, draws=1000, **sampling)
    assert {token for token, share in enumerate(drawn) if share} == kept


def test_presence_and_frequency_count_the_output_only() -> None:
    logits = [1.0, 0.0, 0.9, 0.0]
    assert pick(logits, choice(prompt=[0, 0, 0], presence_penalty=2.0)) == 0
    assert pick(logits, choice(output=[0], presence_penalty=0.2)) == 2
    assert pick(logits, choice(output=[0], frequency_penalty=0.06)) == 0
    assert pick(logits, choice(output=[0, 0], frequency_penalty=0.06)) == 2


def test_repetition_penalty_counts_the_prompt_too_and_lowers_whatever_the_sign() -> None:
    assert pick([1.0, -5.0, 0.9], choice(prompt=[0], repetition_penalty=1.2)) == 2
    assert pick([-1.0, -5.0, -1.1], choice(prompt=[0], repetition_penalty=1.2)) == 2


def test_no_end_before_min_tokens() -> None:
    logits = [0.0, 1.0, 5.0, 4.0]
    assert pick(logits, choice(output=[1], min_tokens=2, stop_ids=(3,))) == 1
    assert pick(logits, choice(output=[1], min_tokens=1, stop_ids=(3,))) == 2


def test_logprobs_are_taken_after_penalties_and_before_temperature() -> None:
    logits = np.array([[2.0, 2.0, 0.0, -1.0]], dtype=np.float32)
    one = choice(output=[0], presence_penalty=1.0, temperature=0.3, top_k=1, logprobs=2)
    (token,), (logprob,) = sample(logits, [one])
    expected = np.array([1.0, 2.0, 0.0, -1.0])
    expected -= np.log(np.exp(expected).sum())
    assert logprob is not None
    assert token == 1
    assert logprob.chosen == pytest.approx(expected[1])
    assert [token for token, _ in logprob.top] == [1, 0]
    assert [value for _, value in logprob.top] == pytest.approx([expected[1], expected[0]])


@given(st.lists(st.tuples(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**32)), min_size=1, max_size=20))
def test_noise_is_a_function_of_seed_and_position(pairs: list[tuple[int, int]]) -> None:
    seeds, positions = zip(*pairs, strict=True)
    together = uniform(seeds, positions)
    assert ((together >= 0) & (together < 1)).all()
    assert [uniform([seed], [position])[0] for seed, position in pairs] == list(together)


def test_noise_is_even_over_seeds_and_over_positions() -> None:
    for noise in (uniform(range(20000), [7] * 20000), uniform([7] * 20000, range(20000))):
        counts = np.histogram(noise, bins=50, range=(0, 1))[0]
        assert ((counts - 400.0) ** 2 / 400).sum() < 100, "chi-squared with 49 degrees of freedom"


@given(st.integers(1, 6), st.integers(0, 2**63), st.floats(0.1, 3.0))
def test_a_row_is_sampled_the_same_whatever_the_others_are(others: int, seed: int, temperature: float) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((others + 1, 61)).astype(np.float32)
    ours = choice(seed=seed, temperature=temperature, top_p=0.9, logprobs=2)
    rest = [choice(seed=index, temperature=index % 2, top_k=index) for index in range(others)]
    tokens, logprobs = sample(logits.copy(), [*rest, ours])
    assert ([tokens[-1]], [logprobs[-1]]) == sample(logits[-1:].copy(), [ours])
