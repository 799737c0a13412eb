"""Tables of constants that were measured: where they are found, what they hold, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import triton

from coxswain_kernels.launching import tuning
from coxswain_kernels.launching.plans import Plan
from coxswain_kernels.launching.tuning import Table

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tables of a test are in a folder of its own, and its device is called `Some GPU (80 GB)`."""
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU (80 GB)")
    tuning._of_device.cache_clear()
    yield tmp_path
    tuning._of_device.cache_clear()


def table(version: str = triton.__version__) -> Table:
    constants = {"paged_decode": {"few": {"warps": 8, "waves": 2}}}
    return Table(device="Some GPU (80 GB)", triton=version, target="sm_90", date="2026-01-02", constants=constants)


def keep(folder: Path, one: Table) -> Path:
    path = folder / one.file_name
    path.write_text(one.as_json())
    return path


def test_a_table_is_found_by_device_and_version(folder: Path) -> None:
    assert keep(folder, table()).name == f"Some-GPU-80-GB-{triton.__version__}.json"
    assert tuning.tuned("paged_decode", "few", GPU) == {"warps": 8, "waves": 2}
    assert tuning.tuned("paged_decode", "many", GPU) == {}
    assert tuning.tuned("linear", "few", GPU) == {}
    assert tuning.tuned("paged_decode", "few", torch.device("cpu")) == {}


def test_a_table_of_another_version_is_none(folder: Path) -> None:
    keep(folder, table("1.0"))
    assert tuning.tuned("paged_decode", "few", GPU) == {}


def test_what_is_tried_goes_before_the_table_and_is_noted(folder: Path) -> None:
    keep(folder, table())
    with tuning.trying("paged_decode", {"warps": 1}) as trial:
        assert tuning.tuned("paged_decode", "few", GPU) == {"warps": 1}
        assert tuning.tuned("linear", "few", GPU) == {}
    assert trial.cases == {"few"}
    assert tuning.tuned("paged_decode", "few", GPU) == {"warps": 8, "waves": 2}


def test_a_plan_is_varied_by_what_it_has() -> None:
    plan = Plan(name="a plan", kernel=None, types={}, constants={"TILE": 64, "DIM": 128})
    other = tuning.varied(plan, {"TILE": 32, "warps": 8, "stages": 3, "waves": 2})
    assert other.name == "a plan, TILE 32, stages 3, warps 8"
    assert (other.constants, other.warps, other.stages) == ({"TILE": 32, "DIM": 128}, 8, 3)
    assert tuning.varied(plan, {"waves": 2}) is plan


def test_what_tables_make_of_plans_is_compiled_for_their_target(folder: Path) -> None:
    plans = [Plan(name=name, kernel=None, types={}, constants={}) for name in ("few", "many")]
    constants = {"squares": {"few; 8 rows": {"warps": 8}, "few; 16 rows": {"warps": 8}, "many; 1 rows": {"waves": 1}}}
    keep(folder, replace(table(), constants=constants))
    keep(folder, replace(table("1.0"), constants=constants))
    (only,) = tuning.committed("squares", plans)
    assert (only.name, only.warps) == ("few, warps 8", 8)
    assert set(only.notes) == {"sm_80", "gfx942"}
    assert tuning.committed("cubes", plans) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1", "is no table of constants"),
        ("{}", "is no table of constants: .* missing"),
        (table().as_json().replace("80 GB", "40 GB"), "name it Some-GPU"),
        (table().as_json().replace('"warps": 8', '"warps": 8.5'), "constants are to be whole numbers"),
    ],
)
def test_what_is_no_table_is_refused(folder: Path, text: str, said: str) -> None:
    path = folder / table().file_name
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        tuning.read(path)
    assert str(path) in str(refused.value)


def test_cases_of_batches_are_powers_of_2() -> None:
    plan = Plan(name="a plan", kernel=None, types={}, constants={})
    cases = [tuning.case_of(plan, rows) for rows in (0, 1, 2, 3, 9, 256)]
    assert cases == [f"a plan; {rows} rows" for rows in (1, 1, 2, 4, 16, 256)]


def test_the_tables_that_are_shipped_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in Path(tuning.__file__).with_name("tuned").glob("*.json"):
        tuning.read(path)
