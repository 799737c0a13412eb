"""Experts by the kernels are experts by torch, and a token's do not know those of the others."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from coxswain_kernels.matrices.matmul import DTYPES
from coxswain_kernels.moe import experts as op

EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES)


class Given(NamedTuple):
    x: Tensor
    weights: Tensor
    chosen: Tensor
    gate_up: Tensor
    down: Tensor

    def rows(self, which: slice | list[int]) -> Given:
        return Given(self.x[which], self.weights[which], self.chosen[which], self.gate_up, self.down)


def _given(dtype: torch.dtype, rows: int, device: str, *, count: int = 5, hidden: int = 48, inner: int = 24) -> Given:
    chosen = torch.stack([torch.randperm(count)[:2] for _ in range(rows)]) if rows else torch.zeros(0, 2)
    return Given(
        x=torch.randn(rows, hidden).to(device, dtype),
        weights=torch.rand(rows, 2).to(device),
        chosen=chosen.to(device, torch.int32),
        gate_up=torch.randn(count, hidden, 2 * inner).div(hidden**0.5).to(device, dtype),
        down=torch.randn(count, inner, hidden).div(inner**0.5).to(device, dtype),
    )


@EACH_DTYPE
@pytest.mark.parametrize("kind", ["fast", "invariant"])
@pytest.mark.parametrize("rows", [0, 1, 7, 40])
@pytest.mark.parity("experts")
def test_they_are_what_torch_computes(dtype: torch.dtype, kind: op.Kind, rows: int, device: str) -> None:
    given = _given(dtype, rows, device)
    near = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(op.launch(*given, kind=kind), op.reference(*given), atol=near, rtol=near)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # what nobody computed may be any number
@pytest.mark.parity("experts")
def test_a_pair_without_an_expert_adds_nothing(device: str) -> None:
    given = _given(torch.float32, 4, device)
    given.chosen[1, 0], given.chosen[2, 1], given.chosen[3] = -1, 5, 99
    got = op.launch(*given)
    torch.testing.assert_close(got, op.reference(*given))
    assert not got[3].any()


@pytest.mark.parity("experts")
def test_many_rows_have_high_tiles(device: str) -> None:
    given = _given(torch.float16, 150, device, count=2, hidden=32, inner=16)
    assert op.fast_tile(torch.float16, 150).rows == 128
    torch.testing.assert_close(op.launch(*given, kind="fast"), op.reference(*given), atol=2e-3, rtol=2e-3)


@pytest.mark.parity("experts")
def test_rows_may_lie_apart(device: str) -> None:
    given = _given(torch.float32, 3, device)
    apart = given._replace(x=torch.cat((given.x, given.x), 1)[:, :48], weights=given.weights.t().contiguous().t())
    torch.testing.assert_close(op.launch(*apart), op.reference(*given))


@EACH_DTYPE
@pytest.mark.invariant("experts")
def test_a_row_has_the_same_bits_in_every_company(dtype: torch.dtype, device: str) -> None:
    given = _given(dtype, 40, device)
    together = op.launch(*given, kind="invariant")
    for row in (0, 17, 39):
        assert torch.equal(op.launch(*given.rows(slice(row, row + 1)), kind="invariant"), together[row : row + 1])
    backwards = list(reversed(range(40)))
    assert torch.equal(op.launch(*given.rows(backwards), kind="invariant"), together[backwards])


@pytest.mark.parity("experts")
def test_what_does_not_fit_is_refused() -> None:
    given = _given(torch.float32, 2, "cpu")
    with pytest.raises(ValueError, match=r"gate_up has shape \[5, 48, 24\], wanted \[5, 48, 48\]"):
        op.launch(*given._replace(gate_up=given.gate_up[:, :, :24]))
    with pytest.raises(ValueError, match="chosen is int64, wanted int32"):
        op.launch(*given._replace(chosen=given.chosen.long()))
    with pytest.raises(ValueError, match="down is float16, wanted float32"):
        op.launch(*given._replace(down=given.down.half()))
