"""Experts are chosen as torch would choose them, and of equal ones the lowest."""

from __future__ import annotations

import pytest
import torch

from coxswain_kernels.matrices.matmul import DTYPES
from coxswain_kernels.moe import routing as op

GATES = pytest.mark.parametrize("gate", ["softmax", "sigmoid"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 8, 2), (3, 11, 3), (1, 1, 1), (0, 4, 2)])
@pytest.mark.parametrize("renormalise", [False, True])
@GATES
@pytest.mark.parity("routing")
def test_it_is_what_torch_computes(
    dtype: torch.dtype, shape: tuple[int, int, int], renormalise: bool, gate: op.Gate, device: str
) -> None:
    rows, experts, top_k = shape
    logits = torch.randn(rows, 2 * experts, device=device).to(dtype)[:, :experts]
    got = op.launch(logits, top_k=top_k, gate=gate, renormalise=renormalise)
    wanted = op.reference(logits, top_k=top_k, gate=gate, renormalise=renormalise)
    torch.testing.assert_close(got[0], wanted[0])
    assert torch.equal(got[1], wanted[1])


@GATES
@pytest.mark.parity("routing")
def test_of_equals_the_lowest_wins(gate: op.Gate, device: str) -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0, 1.0], [30.0, 31.0, 30.0, 30.0, 31.0]], device=device)
    for choose in (op.launch, op.reference):
        weights, chosen = choose(logits, top_k=3, gate=gate)
        assert chosen.tolist() == [[1, 3, 2], [1, 4, 0]]
        torch.testing.assert_close(weights.sum(1), torch.ones(2, device=device))


@GATES
@pytest.mark.invariant("routing")
def test_a_row_has_the_same_bits_in_every_company(gate: op.Gate, device: str) -> None:
    logits = torch.randn(7, 12, device=device)
    weights, chosen = op.launch(logits, top_k=4, gate=gate)
    for row in range(7):
        alone = op.launch(logits[row : row + 1], top_k=4, gate=gate)
        assert torch.equal(alone[0], weights[row : row + 1])
        assert torch.equal(alone[1], chosen[row : row + 1])


@pytest.mark.parity("routing")
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k is 5, wanted 1 to 4"):
        op.launch(torch.zeros(2, 4), top_k=5)
    with pytest.raises(ValueError, match="gate is 'hard', wanted softmax or sigmoid"):
        op.launch(torch.zeros(2, 4), top_k=1, gate="hard")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="logits is int32"):
        op.launch(torch.zeros(2, 4, dtype=torch.int32), top_k=1)
