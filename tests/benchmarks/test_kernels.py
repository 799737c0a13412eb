"""The benchmark of the kernels, but for the GPU: what it says without one, and how times become rows and a page."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import kernels
from benchmarks.kernel_rows import page
from benchmarks.kernel_rows.aims import aims
from benchmarks.kernel_rows.catalogue import SOURCES
from benchmarks.kernel_rows.measuring import Findings
from benchmarks.kernel_rows.workload import Call, Contenders, Model, Workload, ready, theirs
from coxswain_kernels.gate.catalogue import OPERATIONS


class Stopwatch:
    """Takes each call's result for the time that it took. Copies 1 GB, or multiplies 1 GFLOP, in a second."""

    device = torch.device("cpu")

    def copies(self, bytes_moved: int) -> int:
        return 2 if bytes_moved < 10 else 1

    def seconds(self, calls: Sequence[Call], *, bytes_moved: int) -> float:
        return sum(float(str(call())) for call in calls) / len(calls)

    def copied_bytes_per_second(self) -> float:
        return 1e9

    def multiplied_flops_per_second(self, dtype: torch.dtype) -> float:
        return 1e9


def workload(operation: str, shape: str, *, bytes_moved: int, flops: int = 0, **took: float) -> Workload:
    def make(device: torch.device) -> Contenders:
        return {name.replace("_", " "): ready(partial(float, seconds)) for name, seconds in took.items()}

    return Workload(operation=operation, shape=shape, dtype="bfloat16", bytes_moved=bytes_moved, flops=flops, make=make)


def failing(name: str, error: Callable[[], Call]) -> Workload:
    def make(device: torch.device) -> Contenders:
        return {name: error, "only": ready(partial(float, 1))}

    return Workload(operation="linear", shape="1", dtype="bfloat16", bytes_moved=10**9, make=make)


def found(*workloads: Workload) -> Findings:
    findings = Findings()
    for one in workloads:
        findings.add(one, Stopwatch())
    return findings


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert kernels.main(["--quick"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "benchmarks.kernels: torch sees no GPU here, and there is nothing to measure without one\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--json", "/nowhere/rows.json"],
            "benchmarks.kernels: --json /nowhere/rows.json: there is no folder /nowhere",
        ),
        (["--operation", "attention"], "benchmarks.kernels: error: argument --operation: invalid choice: 'attention'"),
        (["--tune", "--quick"], "benchmarks.kernels: --tune goes with nothing else"),
        (["--speed"], "benchmarks.kernels: error: unrecognized arguments: --speed"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = kernels.main(arguments)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(line)


def test_every_operation_is_measured() -> None:
    parts = {"grouping", "routing", "lora_backward"}  # of experts and lora, and of training
    assert {operation.name for operation in OPERATIONS} - parts <= SOURCES.keys()
    for name, source in SOURCES.items():
        for quick in (True, False):
            assert {one.operation for one in source(Model(), quick=quick)} == {name}


def test_a_row_is_held_against_what_takes_longest() -> None:
    findings = found(
        workload("linear", "1", bytes_moved=10**9, flops=10**8, fast=2.0, invariant=3.0, cuBLAS=4.0),
        workload("linear", "2", bytes_moved=10**8, flops=10**9, only=1.25),
    )
    fast, invariant, only = findings.rows
    assert (fast.ceiling, fast.fraction, fast.price, fast.peers) == ("copy", 0.5, None, {"cuBLAS": 4.0})
    assert (invariant.plan, invariant.price) == ("invariant", 1.5)
    assert invariant.fraction == pytest.approx(1 / 3)
    assert (only.ceiling, only.fraction, only.flops_per_second) == ("cuBLAS", 0.8, 8e8)


def test_who_is_not_there_is_named_and_who_fails_is_told_apart() -> None:
    def broken() -> Call:
        raise RuntimeError("no kernel for it\nand more")

    findings = found(failing("Peer, paged", lambda: theirs("no_such_peer").run), failing("fast", broken))
    assert page.notes(findings) == [
        "Peer is not here (ModuleNotFoundError: No module named 'no_such_peer')",
        "linear, 1: fast: RuntimeError: no kernel for it",
    ]
    assert [failure.ours for failure in findings.failures] == [False, True]
    assert len(findings.rows) == 2


def test_aims_are_judged_by_their_worst_row() -> None:
    findings = found(
        workload("paged_decode", "batch 32, context 2048", bytes_moved=10**9, fast=1.25, invariant=9.0),
        workload("paged_decode", "batch 128, context 8192", bytes_moved=10**9, fast=2.0),
        workload("paged_decode", "batch 1, context 32768", bytes_moved=10**9, fast=1.25),
        workload("paged_decode", "batch 1, context 2048", bytes_moved=10**9, fast=100.0),
        workload("paged_prefill", "2048 of 2048", bytes_moved=1, fast=1.0, torch_SDPA=0.9, torch_SDPA_2=0.8, vLLM=0.1),
        workload("quantised_linear", "16 × 4096 × 14336", bytes_moved=1, fast=1.0),
    )
    judged = {aim.name.split(":")[0]: (aim.value, aim.met) for aim in aims(findings.rows)}
    assert judged == {
        "decode, batch ≥ 32, context ≥ 2k": (0.5, False),
        "decode, batch 1, context 32k": (0.8, True),
        "prefill": (0.8, True),
    }


def test_findings_become_a_page_tables_and_json(tmp_path: Path) -> None:
    findings = found(workload("linear", "1 × 2", bytes_moved=10**9, flops=1, fast=2.0, invariant=3e-4, cuBLAS=4.0))
    machine = {"date": "2026-01-02", "device": "a device"}
    text = page.as_page(findings, machine, method=page.method(repeats=100, copy=4e12, multiply=7e14))
    assert "| 1 × 2 | bfloat16 | fast | 2000.00 ms | 0 | 0.0 | 50% of copy |  | cuBLAS 4000.00 ms (2.00×) |" in text
    assert "300.0 µs" in text
    assert "- device: a device" in text
    assert "4000 GB/s" in text
    assert [row["plan"] for row in json.loads(page.as_json(findings, machine))["rows"]] == ["fast", "invariant"]
    console = Console(file=io.StringIO(), width=200)
    for table in page.tables(findings):
        console.print(table)
    assert "cuBLAS 4000.00 ms" in console.file.getvalue()  # type: ignore[attr-defined]
