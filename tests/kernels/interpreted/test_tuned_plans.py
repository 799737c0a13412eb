"""Constants from a table change how fast plans compute, not what; invariant plans never ask for any."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kernel_rows import attention, matrices
from benchmarks.kernel_rows.tuner import SPACES
from benchmarks.kernel_rows.workload import Model, Workload
from coxswain_kernels.attention import paged_decode
from coxswain_kernels.attention.layout import Layout
from coxswain_kernels.launching import tuning
from coxswain_kernels.launching.tuning import Constants, Table

SMALL = Model(heads=4, kv_heads=2, head_dim=64)
TUNED = [
    (attention.decode(SMALL, 2, 300), {"programs": 1, "warps": 8}),
    (attention.decode(SMALL, 2, 300), {"TILE": 32, "stages": 2}),
    (attention.prefill(SMALL, ((5, 20), (3, 3))), {"ROWS": 64, "TILE": 32}),
    (matrices.multiply_quantised(3, 256, 100, bits=4), {"COLUMNS": 32, "warps": 2}),
]


def _tensor(result: object) -> torch.Tensor:
    assert isinstance(result, torch.Tensor)
    return result


@pytest.mark.parametrize(("workload", "constants"), TUNED, ids=str)
def test_only_fast_plans_take_them(workload: Workload, constants: Constants, device: str) -> None:
    contenders = workload.make(torch.device(device))
    fast, invariant = contenders["fast"](), contenders["invariant"]()
    wanted, bits = _tensor(fast()), _tensor(invariant())
    with tuning.trying(workload.operation, constants) as trial:
        torch.testing.assert_close(_tensor(fast()), wanted, rtol=2e-2, atol=2e-2)
        assert len(trial.cases) == 1
    with tuning.trying(workload.operation, constants) as trial:
        assert torch.equal(_tensor(invariant()), bits)
        assert not trial.cases


def test_what_is_tried_is_what_there_is() -> None:
    """A name that no plan has would be measured, and change nothing."""
    known = {name for _, constants in TUNED for name in constants}
    assert {name for space in SPACES for constants in space.candidates for name in constants} == known
    assert {space.operation for space in SPACES} == {workload.operation for workload, _ in TUNED}


def test_a_table_adds_to_the_plans_that_are_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tuned")
    monkeypatch.setattr(tuning, "FOLDER", folder)
    before = len(paged_decode.plans())
    case = tuning.case_of(paged_decode.plan(Layout(dtype=torch.bfloat16, stored=torch.bfloat16)), 8)
    constants = {"paged_decode": {case: {"warps": 8, "programs": 2}}}
    table = Table(device="Some GPU", triton="1.0", target="sm_90", date="2026-01-02", constants=constants)
    (folder / table.file_name).write_text(table.as_json())
    assert len(paged_decode.plans()) == before + 1
