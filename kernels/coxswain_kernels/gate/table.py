"""The table of kernels, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import triton

from coxswain_kernels.gate.compiling import Binary
from coxswain_kernels.launching.plans import Operation, Plan
from coxswain_kernels.launching.targets import TARGETS

_HEAD = """# Kernels

Written by `make test-kernels WRITE=1`, checked by `make test-kernels`; Triton {version}, sources {sources}. No
accelerator was needed.

- *parity*: tests of the kernel against its torch reference, run by Triton's interpreter.
- *invariant*: tests that a row has the same bits alone, in any batch and in any chunk, likewise. This proves the plan:
  of compiled code it is claimed only where a GPU has shown it.
- *sm_80* (A100), *sm_90* (H100, H200), *gfx942* (MI300): every plan is compiled ahead of time. The cell has the most
  registers and the most shared memory of all plans, and the instructions that multiply matrices (on NVIDIA's, of plans
  that promise them). No plan spills.
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One plan on one target."""

    binary: Binary | None = None
    note: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation."""

    operation: Operation
    parity: list[str]
    """How its tests ended."""
    invariant: list[str]
    plans: tuple[Plan, ...]
    cells: tuple[tuple[Cell, ...], ...]
    """By plan, then by target."""

    def wrong(self) -> Iterator[str]:
        """What keeps it from being shipped, a line each."""
        name = self.operation.name
        if not self.parity or set(self.parity) != {"passed"}:
            yield f"{name}: parity with the torch reference is not shown ({len(self.parity)} tests)"
        if not self.operation.invariant and set(self.invariant) != {"passed"}:
            yield f"{name}: invariance is not shown ({len(self.invariant)} tests)"
        for plan, cells in zip(self.plans, self.cells, strict=True):
            for target, cell in zip(TARGETS, cells, strict=True):
                if cell.wrong:
                    yield f"{name} [{plan.name}] on {target.name}: {cell.wrong}"


def render(rows: Sequence[Row], *, sources: str) -> str:
    """The whole page; `sources` names the state of the kernels."""
    lines = [_HEAD.format(version=triton.__version__, sources=sources)]
    lines += _table(["operation", "parity", "invariant", *(target.name for target in TARGETS)], map(_summary, rows))
    lines += ["", "## Plans", "", "Registers of a thread, KiB of shared memory, matrix instruction.", ""]
    lines += _table(
        ["operation", "plan", *(target.name for target in TARGETS)], (line for row in rows for line in _details(row))
    )
    return "\n".join(lines) + "\n"


def _summary(row: Row) -> list[str]:
    invariant = row.operation.invariant or f"{len(row.invariant)} passed"
    cells = [_widest([cells[index] for cells in row.cells]) for index in range(len(TARGETS))]
    return [row.operation.name, f"{len(row.parity)} passed", invariant, *cells]


def _details(row: Row) -> Iterator[list[str]]:
    for plan, cells in zip(row.plans, row.cells, strict=True):
        yield [row.operation.name, plan.name, *map(_cell, cells)]


def _cell(cell: Cell) -> str:
    if cell.binary is None:
        return cell.note
    figures = f"{cell.binary.registers} · {cell.binary.shared_bytes / 1024:.3g}"
    return " · ".join(part for part in (figures, cell.binary.matrix_instruction, cell.note) if part)


def _widest(cells: Sequence[Cell]) -> str:
    binaries = [cell.binary for cell in cells if cell.binary is not None]
    missing = f", {len(cells) - len(binaries)} unsupported" if len(binaries) < len(cells) else ""
    if not binaries:
        return cells[0].note
    instructions = sorted({binary.matrix_instruction for binary in binaries} - {""})
    registers, shared = max(one.registers for one in binaries), max(one.shared_bytes for one in binaries)
    parts = [f"{len(binaries)} plans{missing}", f"≤ {registers} registers", f"≤ {shared / 1024:.3g} KiB", *instructions]
    return " · ".join(parts)


def _table(head: list[str], rows: Iterator[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
