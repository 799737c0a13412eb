"""The findings as tables for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import groupby

from rich.table import Table

from benchmarks.kernel_rows.aims import aims
from benchmarks.kernel_rows.measuring import Failure, Findings, Row

_COLUMNS = ("shape", "type", "plan", "time", "GB/s", "TFLOP/s", "of ceiling", "price", "peers")
_LEFT = ("shape", "type", "peers")
_METHOD = """Times are of the device: the median of {repeats} runs between CUDA events, without what the host takes to
launch them. Between two uses of a tensor lies at least four times what the L2 cache holds. The ceiling is whichever
would take longer for the row's bytes or products: a copy on the device, at {copy:.0f} GB/s with reads and writes
counted, or the vendor's library, at {multiply:.0f} TFLOP/s (bf16, 8192 × 8192 × 8192). Bytes are counted once, however
often they are read. Price: time of the invariant plan by that of the fast one. Peers: their time by ours."""


def tables(findings: Findings) -> Iterator[Table]:
    """One for each operation."""
    for operation, rows in _by_operation(findings):
        table = Table(title=operation, title_justify="left")
        for column in _COLUMNS:
            table.add_column(column, overflow="fold", justify="left" if column in _LEFT else "right")
        for row in rows:
            table.add_row(*_cells(row))
        yield table


def as_page(findings: Findings, machine: Mapping[str, str], *, method: str) -> str:
    """A Markdown page."""
    lines = ["# Kernels", "", f"Written by `python -m benchmarks.kernels` on {machine['date']}.", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items() if name != "date"]
    lines += ["", method, "", "## Aims", "", "| aim | measured | wanted | met |", "|---|---:|---:|---|"]
    lines += [
        f"| {aim.name} | {aim.value:.2f} | {aim.wanted:g} | {'yes' if aim.met else 'no'} |"
        for aim in aims(findings.rows)
    ]
    for operation, rows in _by_operation(findings):
        lines += ["", f"## {operation}", "", f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join([*lines, "", "## Without a figure", "", *(f"- {note}" for note in notes(findings)), ""])


def as_json(findings: Findings, machine: Mapping[str, str]) -> str:
    """All rows, and what there is no row of."""
    found = {
        "machine": dict(machine),
        "rows": [asdict(row) for row in findings.rows],
        "aims": [asdict(aim) | {"met": aim.met} for aim in aims(findings.rows)],
        "failures": [asdict(failure) for failure in findings.failures],
    }
    return json.dumps(found, indent=1) + "\n"


def method(*, repeats: int, copy: float, multiply: float) -> str:
    """How it was measured; ceilings in bytes and operations a second."""
    return _METHOD.format(repeats=repeats, copy=copy / 1e9, multiply=multiply / 1e12)


def notes(findings: Findings) -> list[str]:
    """Who was not there, in a line each, and what failed."""
    absent: dict[str, Failure] = {one.contender.split(",")[0]: one for one in findings.failures if one.absent}
    lines = [f"{name} is not here ({one.reason})" for name, one in absent.items()]
    failed = [one for one in findings.failures if not one.absent]
    return lines + [f"{one.operation}, {one.shape}: {one.contender}: {one.reason}" for one in failed] or ["none"]


def _by_operation(findings: Findings) -> Iterator[tuple[str, list[Row]]]:
    for operation, rows in groupby(findings.rows, lambda row: row.operation):
        yield operation, list(rows)


def _cells(row: Row) -> tuple[str, ...]:
    peers = (f"{name} {_time(taken)} ({taken / row.seconds:.2f}×)" for name, taken in row.peers.items())
    return (
        row.shape,
        row.dtype,
        row.plan,
        _time(row.seconds),
        f"{row.bytes_per_second / 1e9:.0f}",
        f"{row.flops_per_second / 1e12:.1f}" if row.flops_per_second else "",
        f"{row.fraction:.0%} of {row.ceiling}",
        f"{row.price:.2f}×" if row.price else "",
        "; ".join(peers),
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
