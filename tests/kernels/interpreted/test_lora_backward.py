"""Gradients of adapters by the kernels are those that torch finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from coxswain_kernels.matrices import lora_backward as op
from coxswain_kernels.matrices.lora import Adapters
from coxswain_kernels.matrices.matmul import DTYPES

RANKS = (8, 32, 0, 5)


def _given(dtype: torch.dtype, rows: int, device: str, *, inner: int = 40) -> tuple[Tensor, Adapters, Tensor]:
    adapters = Adapters(
        down=torch.randn(sum(RANKS), inner).div(inner**0.5).to(device, dtype),
        up=torch.randn(sum(RANKS), 24).div(4).to(device, dtype),
        starts=torch.tensor([0, *RANKS]).cumsum(0).to(device, torch.int32),
        scales=torch.tensor([0.5, 1.0, 1.5, 2.0], device=device),
        max_rank=32,
    )
    index = torch.randint(-1, 3, (rows,), dtype=torch.int32, device=device)
    return torch.randn(rows, inner).to(device, dtype), adapters, index


def _gradients(
    how: Callable[..., Tensor], x: Tensor, adapters: Adapters, index: Tensor, weight: Tensor
) -> tuple[Tensor, ...]:
    leaves = [one.clone().requires_grad_() for one in (x, adapters.down, adapters.up)]
    delta = how(leaves[0], replace(adapters, down=leaves[1], up=leaves[2]), index)
    return (delta, *torch.autograd.grad((delta * weight).sum(), leaves))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 37])
@pytest.mark.parity("lora_backward")
def test_they_are_what_torch_finds(dtype: torch.dtype, rows: int, device: str) -> None:
    given, weight = _given(dtype, rows, device), torch.randn(rows, 24).to(device, dtype)
    got, wanted = _gradients(op.launch, *given, weight), _gradients(op.delta_reference, *given, weight)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 if dtype == torch.float32 else 5e-2, rtol=2e-2)


@pytest.mark.filterwarnings("ignore:Input #:UserWarning")  # that it is not in double precision, hence the tolerance
@pytest.mark.parity("lora_backward")
def test_they_are_derivatives(device: str) -> None:
    x, adapters, index = _given(torch.float32, 6, device, inner=8)

    def delta(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        return op.launch(x, replace(adapters, down=down, up=up), index)

    leaves = tuple(one.clone().requires_grad_() for one in (x, adapters.down, adapters.up))
    assert torch.autograd.gradcheck(delta, leaves, eps=1e-2, atol=2e-2, rtol=2e-2, fast_mode=True)


@pytest.mark.parity("lora_backward")
def test_an_adapter_without_rows_learns_nothing(device: str) -> None:
    x, adapters, _ = _given(torch.float32, 5, device)
    index = torch.ones(5, dtype=torch.int32, device=device)
    _, _, of_down, of_up = _gradients(op.launch, x, adapters, index, torch.ones(5, 24, device=device))
    others = [*range(8), *range(40, 45)]
    assert not of_down[others].any()
    assert not of_up[others].any()
    assert of_down[8:40].any()


@pytest.mark.parity("lora_backward")
def test_what_does_not_fit_is_refused() -> None:
    x, adapters, index = _given(torch.float32, 5, "cpu")
    with pytest.raises(ValueError, match=r"index has shape \[5\], wanted \[4\]"):
        op.launch(x[:4], adapters, index)
    with pytest.raises(ValueError, match="index is int64, wanted int32"):
        op.launch(x, adapters, index.long())
