"""Llumnix's workloads: CSV with the lengths `prompt` and `response`; when they arrive is the user's choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coxswain_simulate.traces.lines import Column, Line, rows, tokens

_COLUMNS = (
    Column("prompt", ("prompt", "prompt_tokens")),
    Column("response", ("response", "response_tokens")),
)


def read(path: Path) -> Iterator[Line]:
    """The file's requests, all at zero. Raises InputError."""
    for number, (prompt, output) in rows(path, _COLUMNS):
        yield Line(0.0, tokens(path, number, "prompt", prompt), tokens(path, number, "response", output))
