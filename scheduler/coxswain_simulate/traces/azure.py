"""Azure's LLM inference traces: CSV with TIMESTAMP, ContextTokens and GeneratedTokens. No prefixes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from coxswain_simulate.errors import InputError
from coxswain_simulate.traces.lines import Column, Line, rows, tokens

_COLUMNS = (
    Column("TIMESTAMP", ("timestamp", "arrival_timestamp")),
    Column("ContextTokens", ("contexttokens", "context_tokens", "num_prefill_tokens")),
    Column("GeneratedTokens", ("generatedtokens", "generated_tokens", "num_decode_tokens")),
)


def read(path: Path) -> Iterator[Line]:
    """The file's requests, in its order. Raises InputError."""
    for number, (when, prompt, output) in rows(path, _COLUMNS):
        yield Line(
            _moment(path, number, when),
            tokens(path, number, "ContextTokens", prompt),
            tokens(path, number, "GeneratedTokens", output),
        )


def _moment(path: Path, line: int, text: str) -> float:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        problem = f"TIMESTAMP is {text!r}; it must be a date and time such as 2023-11-16 18:15:46.68"
        raise InputError.at(path, line, problem) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
