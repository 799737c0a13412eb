"""Operations that work row by row, against the formulas they stand for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_kernels.elementwise.rms_norm import rms_norm
from coxswain_kernels.elementwise.rotary import Llama3Scaling, rotary, rotary_tables
from coxswain_kernels.elementwise.silu_mul import silu_mul
from coxswain_kernels.matrices.linear import linear

ROWS = st.integers(1, 40)


@given(ROWS)
def test_rms_norm_divides_by_the_root_of_the_mean_square(rows: int) -> None:
    x, weight = torch.randn(rows, 48, dtype=torch.float64).float(), torch.randn(48)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), expected)


@given(ROWS)
def test_silu_mul_gates_the_second_half_by_the_first(rows: int) -> None:
    x = torch.randn(rows, 64)
    gate, up = x[:, :32], x[:, 32:]
    torch.testing.assert_close(silu_mul(x), gate / (1 + (-gate).exp()) * up)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("max_rows", [None, 1, 7, 16])
def test_linear_gives_the_same_in_slices(bias: bool, max_rows: int | None) -> None:
    x, weight, offset = torch.randn(33, 48), torch.randn(48, 20), torch.randn(20)
    expected = x.double() @ weight.double() + (offset.double() if bias else 0)
    got = linear(x, weight, offset if bias else None, max_rows=max_rows)
    torch.testing.assert_close(got, expected.float(), rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(st.integers(0, 90), st.integers(0, 90), st.integers(0, 30))
def test_rotated_products_depend_on_the_distance_only(first: int, second: int, shift: int) -> None:
    cos, sin = rotary_tables(head_dim=16, theta=10000.0, positions=128)
    query, key = torch.randn(1, 1, 16), torch.randn(1, 1, 16)

    def product(at: int, other: int) -> torch.Tensor:
        return (rotary(query, cos[at, None], sin[at, None]) * rotary(key, cos[other, None], sin[other, None])).sum()

    torch.testing.assert_close(product(first, second), product(first + shift, second + shift), rtol=1e-4, atol=1e-4)


def test_rotary_turns_each_pair_by_position_times_frequency() -> None:
    cos, sin = rotary_tables(head_dim=4, theta=100.0, positions=8)
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    slow = 7 * 100.0**-0.5
    expected = [
        1 * math.cos(7) - 3 * math.sin(7),
        2 * math.cos(slow) - 4 * math.sin(slow),
        3 * math.cos(7) + 1 * math.sin(7),
        4 * math.cos(slow) + 2 * math.sin(slow),
    ]
    torch.testing.assert_close(rotary(x, cos[7, None], sin[7, None]).flatten(), torch.tensor(expected))


def test_llama3_scaling_slows_low_frequencies_and_keeps_high_ones() -> None:
    scaling = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
    fast, slow = 2 * math.pi * 4.1 / 64, 2 * math.pi * 0.9 / 64
    scaled = scaling.apply(torch.tensor([fast, slow], dtype=torch.float64))
    torch.testing.assert_close(scaled, torch.tensor([fast, slow / 8], dtype=torch.float64))
