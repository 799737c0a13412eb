"""Kernels on a GPU: achieved bandwidth and FLOP/s beside what the device can do, and beside other people's kernels.

    python -m benchmarks.kernels [--operation NAME ...] [--quick] [--json OUT]
    python -m benchmarks.kernels --tune

Prints a table for each operation. A run over all operations also writes `benchmarks/results/kernels.md` and `.json`;
rows that lose stay in. Without a GPU it says so and exits 2; with a kernel of this project that fails it exits 1.

`--tune` measures what constants of fast plans could be, and writes the table that `coxswain_kernels.launching.tuning`
then reads on this device.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from benchmarks.kernel_rows import page
from benchmarks.kernel_rows.catalogue import SOURCES
from benchmarks.kernel_rows.measuring import Findings
from benchmarks.kernel_rows.timing import Clock
from benchmarks.kernel_rows.tuner import SPACES, tune
from benchmarks.kernel_rows.workload import Model
from benchmarks.rows import write
from coxswain_kernels.launching import tuning

RESULTS = Path(__file__).with_name("results")
_REPEATS, _QUICK_REPEATS = 100, 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 when a kernel of ours failed, 2 when nothing could be measured."""
    options = _parser().parse_args(arguments)
    if reason := _obstacle(options):
        print(f"benchmarks.kernels: {reason}", file=sys.stderr)
        return 2
    console, clock = Console(), Clock(torch.device("cuda"), repeats=_QUICK_REPEATS if options.quick else _REPEATS)
    if options.tune:
        return _tune(clock, console)
    findings = _measure(options, clock, console)
    for table in page.tables(findings):
        console.print(table)
    for note in page.notes(findings):
        console.print(note, style="dim")
    _file(options, findings, clock)
    return int(any(failure.ours for failure in findings.failures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.kernels", description="Measure the kernels on a GPU.")
    one = "only this one (may be repeated)"
    parser.add_argument("--operation", action="append", metavar="NAME", choices=SOURCES, help=one)
    parser.add_argument("--quick", action="store_true", help="few and small shapes; files nothing")
    parser.add_argument("--tune", action="store_true", help="write the table of this device's fastest constants")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the rows to this file")
    return parser


def _obstacle(options: argparse.Namespace) -> str:
    if options.json and not options.json.absolute().parent.is_dir():
        return f"--json {options.json}: there is no folder {options.json.absolute().parent}"
    if options.tune and (options.operation or options.quick or options.json):
        return "--tune goes with nothing else"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "TRITON_INTERPRET is 1, so kernels would be interpreted: unset it"
    if not torch.cuda.is_available():
        return "torch sees no GPU here, and there is nothing to measure without one"
    return ""


def _tune(clock: Clock, console: Console) -> int:
    table = tune(SPACES, Model(), clock, say=console.print)
    path = tuning.FOLDER / table.file_name
    write(path, table.as_json())
    console.print(f"written to {path}: `make test-kernels` says whether all of it can be launched")
    return 0


def _measure(options: argparse.Namespace, clock: Clock, console: Console) -> Findings:
    findings, model = Findings(), Model()
    clock.copied_bytes_per_second()  # while the memory is empty
    names = options.operation or SOURCES
    workloads = [workload for name in names for workload in SOURCES[name](model, quick=options.quick)]
    for workload in track(workloads, description="measuring", console=console):
        findings.add(workload, clock)
        torch.cuda.empty_cache()
    return findings


def _file(options: argparse.Namespace, findings: Findings, clock: Clock) -> None:
    machine = _machine(clock.device)
    if options.json:
        write(options.json, page.as_json(findings, machine))
    if options.quick or options.operation:
        return
    copy, multiply = clock.copied_bytes_per_second(), clock.multiplied_flops_per_second(torch.bfloat16)
    method = page.method(repeats=clock.repeats, copy=copy, multiply=multiply)
    write(RESULTS / "kernels.md", page.as_page(findings, machine, method=method))
    write(RESULTS / "kernels.json", page.as_json(findings, machine))


def _machine(device: torch.device) -> dict[str, str]:
    found = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    found |= {"device": torch.cuda.get_device_name(device), "driver": _driver(), "Python": platform.python_version()}
    found |= {"CUDA": torch.version.cuda or "", "ROCm": torch.version.hip or ""}
    for package in ("torch", "triton", "flashinfer-python", "vllm"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return {name: value for name, value in found.items() if value}


def _driver() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return said[0] if said else ""


if __name__ == "__main__":
    sys.exit(main())
