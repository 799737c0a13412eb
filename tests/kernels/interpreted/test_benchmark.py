"""What the benchmark measures is what it says: on small shapes, plans and peers compute the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.kernel_rows import attention, elementwise, matrices, transfer
from benchmarks.kernel_rows.workload import PLANS, Model, Workload
from coxswain_kernels.cache.block_copy import Blocks

SMALL = Model(heads=4, kv_heads=2, head_dim=64, hidden=64, inner=48, vocab=300)
ALIKE = [
    attention.decode(SMALL, 3, 40),
    attention.decode(SMALL, 2, 20, stored=torch.int8),
    attention.decode(SMALL, 2, 20, stored=torch.float8_e4m3fn),
    attention.prefill(SMALL, ((5, 5), (5, 5))),
    attention.prefill(SMALL, ((3, 20),)),
    attention.prefill(SMALL, ((1, 20), (7, 7))),
    attention.share(SMALL, 3, 64, 20),
    matrices.multiply(3, 64, 40),
    matrices.multiply_quantised(3, 128, 64, bits=4),
    matrices.multiply_quantised(3, 128, 64, bits=8),
    matrices.multiply_routed(5, 64, 32, count=4, top_k=2),
    elementwise.normalise(SMALL, 3),
    elementwise.activate(SMALL, 3),
    transfer.gather(SMALL, 2, 3, torch.bfloat16, torch.bfloat16),
]
ALONE = [
    matrices.adapt(3, 64, 48, ranks=(8, 4)),
    elementwise.add_and_normalise(SMALL, 3),
    elementwise.sample(SMALL, 2),
    transfer.gather(SMALL, 2, 3, torch.bfloat16, torch.int8),
    transfer.scatter(SMALL, 2, 3, torch.bfloat16),
    transfer.write(SMALL, 3, torch.bfloat16),
    transfer.write(SMALL, 3, torch.int8),
]


def _results(workload: Workload, device: str) -> Iterator[tuple[str, object]]:
    """Of those contenders that there are."""
    for name, prepare in workload.make(torch.device(device)).items():
        try:
            result = prepare()()
        except (ImportError, RuntimeError):
            assert name not in PLANS
        else:
            yield name, result


def _name(workload: Workload) -> str:
    return f"{workload.operation}, {workload.shape}, {workload.dtype}"


@pytest.mark.parametrize("workload", ALIKE, ids=_name)
@pytest.mark.filterwarnings("ignore::UserWarning")  # in which torch says why a kernel of its own does not fit
def test_contenders_compute_the_same(workload: Workload, device: str) -> None:
    (first, wanted), *others = [(name, _tensor(result)) for name, result in _results(workload, device)]
    assert first in PLANS
    assert others
    for _, got in others:
        # torch's attention has the heads in front.
        same = (got.transpose(1, 2) if got.dim() == 4 else got).reshape(wanted.shape)
        torch.testing.assert_close(same, wanted, rtol=2e-2, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize("workload", ALONE, ids=_name)
def test_contenders_run(workload: Workload, device: str) -> None:
    assert "only" in dict(_results(workload, device))


def _tensor(result: object) -> torch.Tensor:
    tensor = result.data if isinstance(result, Blocks) else result
    assert isinstance(tensor, torch.Tensor)
    return tensor.float()
