"""The fastest constants of each case become a table; those that do not fit, or compute something else, do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from triton.runtime.errors import OutOfResources

from benchmarks.kernel_rows.tuner import Space, every, tune
from benchmarks.kernel_rows.workload import Call, Contenders, Model, Workload, ready
from coxswain_kernels.launching.tuning import tuned

CPU = torch.device("cpu")
SECONDS = {
    "small": {(): 4.0, (2, 1): 3.0, (2, 2): 5.0},
    "large": {(): 4.0, (2, 1): 3.95, (2, 2): 4.0},
}
"""By shape and constants."""


class Stopwatch:
    """A call says how long it took by its second number."""

    device = CPU

    def copies(self, bytes_moved: int) -> int:
        return 1

    def seconds(self, calls: Sequence[Call], *, bytes_moved: int) -> float:
        result = calls[0]()
        assert isinstance(result, torch.Tensor)
        return float(result[0]) - 1e6

    def copied_bytes_per_second(self) -> float:
        return 1.0

    def multiplied_flops_per_second(self, dtype: torch.dtype) -> float:
        return 1.0


def operation(shape: str) -> torch.Tensor:
    constants = tuple(tuned("squares", shape, CPU).values())
    if constants and constants[0] == 4:
        raise OutOfResources(300, 200, "shared memory")
    if constants and constants[0] == 8:
        return torch.zeros(1)
    return torch.tensor([1e6 + SECONDS[shape][constants]], dtype=torch.float64)


def workloads(model: Model) -> Iterator[Workload]:
    def made(shape: str) -> Workload:
        def make(device: torch.device) -> Contenders:
            return {"fast": ready(lambda: operation(shape)), "invariant": ready(lambda: None)}

        return Workload(operation="squares", shape=shape, dtype="float32", bytes_moved=1, make=make)

    yield from map(made, SECONDS)


def test_the_fastest_is_kept_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    said: list[str] = []
    space = Space("squares", workloads, every(rows=(2, 4, 8), warps=(1, 2)))
    table = tune([space], Model(), Stopwatch(), say=said.append)
    assert table.constants == {"squares": {"small": {"rows": 2, "warps": 1}}}
    assert (table.device, table.target) == ("Some GPU", "sm_90")
    assert said[0] == "squares, small: 4000000.0 µs, at best 3000000.0 µs by {'rows': 2, 'warps': 1}"
    assert len(said) == 2


def test_all_combinations_are_tried() -> None:
    assert every(a=(1, 2), b=(3,)) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
