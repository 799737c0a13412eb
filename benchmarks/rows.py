"""What a benchmark says: rows of figures beside a peer's, as a table, as JSON and as a page."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. `peer` says what `peer_value` was measured on, in the same run; both empty where there is none."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures that belong together, and the workload they are of."""

    title: str
    workload: str
    rows: Sequence[Row]


def hardware() -> str:
    """This machine in a line, and how busy it is with other things."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    software = f"Python {platform.python_version()}, {platform.system()}"
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB, {software}, load average {os.getloadavg()[0]:.1f}"


def as_json(sections: Iterable[Section]) -> str:
    """A JSON array of all rows."""
    return json.dumps([asdict(row) for section in sections for row in section.rows], indent=2) + "\n"


def as_table(section: Section) -> Table:
    """For a terminal."""
    table = Table(title=section.title, caption=section.workload, title_justify="left", caption_justify="left")
    for column in ("figure", "value", "unit", "peer", "peer's value"):
        table.add_column(column, overflow="fold", justify="right" if "value" in column else "left")
    for row in section.rows:
        table.add_row(*_cells(row))
    return table


def as_page(sections: Iterable[Section], *, command: str, machine: str, date: str) -> str:
    """A Markdown page."""
    lines = ["# First light: what the parts cost", "", f"Written by `{command}` on {date}.", "", f"{machine}.", ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.workload, ""]
        lines += ["| figure | value | unit | peer | peer's value |", "|---|---:|---|---|---:|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in section.rows]
        lines.append("")
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.name, _number(row.value), row.unit, row.peer, _number(row.peer_value))


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _processor() -> str:
    cpuinfo: dict[str, Any] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        cpuinfo.setdefault(name.strip(), value.strip())
    return str(cpuinfo.get("model name", platform.machine()))
