"""Tables of constants that were measured: where they are found, what they hold, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import triton

from coxswain_kernels import tuning
from coxswain_kernels.tuning import Table

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


def test_all_tables_of_a_target_are_to_be_compiled(folder: Path) -> None:
    keep(folder, table())
    keep(folder, table("1.0"))
    assert tuning.committed("paged_decode", "sm_90") == [("few", {"warps": 8, "waves": 2})] * 2
    assert tuning.committed("paged_decode", "sm_80") == []


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
    assert [tuning.bucket(number) for number in (0, 1, 2, 3, 8, 9, 256)] == [1, 1, 2, 4, 8, 16, 256]


def test_the_tables_that_are_shipped_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in Path(tuning.__file__).with_name("tuned").glob("*.json"):
        tuning.read(path)
