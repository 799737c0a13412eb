"""Compiles every plan for every target, says what must not be shipped, and writes the table of kernels.

    python -m coxswain_kernels.gate --outcomes FILE [--check] [--unless-known] [--operation NAME]

`FILE` is what the interpreted tests wrote with `--kernel-outcomes`. Exits with 1 where a kernel fails, or where, with
`--check`, the table is not up to date. Compiling all takes minutes: with `--unless-known` that is left out where the
table was written from these very sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import triton
from rich.progress import track

from coxswain_kernels.gate.catalogue import OPERATIONS
from coxswain_kernels.gate.compiling import Binary, compile_plan
from coxswain_kernels.gate.table import Cell, Row, render
from coxswain_kernels.launching.plans import Operation, Plan
from coxswain_kernels.launching.targets import TARGETS, Target

PACKAGE = Path(__file__).parents[1]
TABLE = PACKAGE.parents[1] / "docs" / "kernels.md"


def main() -> int:
    """See the module."""
    options = _options()
    sources = _digest()
    if options.unless_known and TABLE.exists() and sources in TABLE.read_text():
        print("docs/kernels.md was written from these kernels: they are not compiled again")
        return 0
    operations = [one for one in OPERATIONS if options.operation in (None, one.name)]
    outcomes = json.loads(options.outcomes.read_text())
    rows = list(_rows(operations, outcomes, processes=options.processes))
    wrong = [line for row in rows for line in row.wrong()]
    for line in wrong:
        print(line, file=sys.stderr)
    text = render(rows, sources=sources)
    if wrong:
        return 1
    if not options.check and options.operation is None:
        TABLE.write_text(text)
    elif options.operation is None and TABLE.read_text() != text:
        print("docs/kernels.md is not up to date: run `make test-kernels WRITE=1`", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m coxswain_kernels.gate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--outcomes", type=Path, required=True, help="written by the interpreted tests")
    parser.add_argument("--check", action="store_true", help="compare with docs/kernels.md instead of writing it")
    parser.add_argument("--unless-known", action="store_true", help="compile nothing that the table knows already")
    parser.add_argument(
        "--operation", choices=[one.name for one in OPERATIONS], help="this one only, and write nothing"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _digest() -> str:
    """Of everything that makes a binary what it is."""
    digest = hashlib.sha256(triton.__version__.encode())
    for file in sorted((*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.json"))):
        name = file.relative_to(PACKAGE).as_posix()
        digest.update(name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _rows(
    operations: Iterable[Operation], outcomes: Mapping[str, Mapping[str, list[str]]], *, processes: int
) -> Iterable[Row]:
    jobs = [
        (operation, plan, target)
        for operation in operations
        for plan in range(len(operation.plans()))
        for target in range(len(TARGETS))
    ]
    names = [(operation.name, plan, target) for operation, plan, target in jobs]
    with ProcessPoolExecutor(processes) as pool:
        done = track(pool.map(_compile, names), "compiling kernels", total=len(jobs))
        cells = dict(zip(names, done, strict=True))
    for operation in operations:
        plans = operation.plans()
        yield Row(
            operation=operation,
            parity=outcomes.get(operation.name, {}).get("parity", []),
            invariant=outcomes.get(operation.name, {}).get("invariant", []),
            plans=plans,
            cells=tuple(
                tuple(cells[operation.name, plan, target] for target in range(len(TARGETS)))
                for plan in range(len(plans))
            ),
        )


def _compile(job: tuple[str, int, int]) -> Cell:
    """In a process of its own, to which a name goes more easily than a kernel."""
    name, place, at = job
    operation = next(one for one in OPERATIONS if one.name == name)
    plan, target = operation.plans()[place], TARGETS[at]
    note = plan.notes.get(target.name, "")
    if note.startswith("unsupported"):
        return Cell(note=note)
    try:
        binary = compile_plan(plan, target)
    except Exception as error:  # whatever the compiler raises is the finding
        return Cell(note=note, wrong=f"does not compile: {str(error).strip().splitlines()[-1][:200]}")
    return Cell(binary, note, wrong="; ".join(_faults(plan, target, binary)))


def _faults(plan: Plan, target: Target, binary: Binary) -> Iterable[str]:
    if binary.spilled_bytes:
        yield f"spills {binary.spilled_bytes} bytes"
    if binary.shared_bytes > target.shared_bytes:
        yield f"wants {binary.shared_bytes} bytes of shared memory, has {target.shared_bytes}"
    if plan.tensor_cores and not binary.matrix_instruction:
        yield "has no instruction that multiplies matrices"
    fixed = {one.name for one in plan.kernel.params if one.do_not_specialize}
    if specialised := plan.batch - fixed:
        yield f"compiles in what depends on the batch: {', '.join(sorted(specialised))}"


if __name__ == "__main__":
    sys.exit(main())
