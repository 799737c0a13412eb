"""ServeGen's workloads: CSV with arrival_s, input_tokens and output_tokens. No prefixes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coxswain_simulate.traces.lines import Column, Line, moment, rows, tokens

_COLUMNS = (
    Column("arrival_s", ("arrival_s", "timestamp_s")),
    Column("input_tokens", ("input_tokens",)),
    Column("output_tokens", ("output_tokens",)),
)


def read(path: Path) -> Iterator[Line]:
    """The file's requests, in its order. Raises InputError."""
    for number, (when, prompt, output) in rows(path, _COLUMNS):
        yield Line(
            moment(path, number, "arrival_s", when),
            tokens(path, number, "input_tokens", prompt),
            tokens(path, number, "output_tokens", output),
        )
