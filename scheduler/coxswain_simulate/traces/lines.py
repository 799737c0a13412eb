"""Lines and columns of a file, plain or gzipped, with the numbers that error messages name."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coxswain_simulate.errors import InputError

_GZIP = b"\x1f\x8b"
MAX_TOKENS = 2**31 - 1
"""Beyond this a length is a mistake."""


class Line(NamedTuple):
    """One request as a line of a file states it; not yet in order."""

    arrival: float
    prompt_tokens: int
    output_tokens: int
    chunks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column and the names that it may have."""

    field: str
    names: tuple[str, ...]


def read_lines(path: Path) -> list[bytes]:
    """The file's lines, whether or not the last one ends. Raises InputError for what cannot be read, or is empty."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError.at(path, None, f"cannot be read: {error.strerror}") from None
    if content.startswith(_GZIP):
        content = _unzipped(path, content)
    elif path.suffix == ".gz":
        raise InputError.at(path, 1, "is not gzip data, whatever its name says")
    if not content.strip():
        raise InputError.at(path, 1, "is empty")
    return content.removeprefix(b"\xef\xbb\xbf").split(b"\n")


def rows(path: Path, columns: Sequence[Column]) -> Iterator[tuple[int, list[str]]]:
    """Line number and the cells of `columns`, in their order, of each row of a CSV file with a header."""
    lines = _text(path, read_lines(path))
    table = csv.reader(lines, strict=True)
    try:
        places = _places(path, next(table), columns)
        for cells in table:
            if cells:
                yield table.line_num, _chosen(path, table.line_num, cells, places)
    except csv.Error as error:
        raise InputError.at(path, table.line_num, f"is not CSV: {error}") from None


def tokens(path: Path, line: int, field: str, text: str) -> int:
    """A count of at least one token."""
    if text.isascii() and text.isdigit() and 0 < (value := int(text)) <= MAX_TOKENS:
        return value
    raise InputError.at(path, line, f"{field} is {text!r}; it must be a whole number of tokens, at least 1")


def moment(path: Path, line: int, field: str, text: str) -> float:
    """Seconds, finite and not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError.at(path, line, f"{field} is {text!r}; it must be a number of seconds, not negative")
    return value


def _unzipped(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError.at(path, None, f"is damaged gzip data: {error}") from None


def _text(path: Path, lines: list[bytes]) -> list[str]:
    try:
        return b"\n".join(lines).decode().split("\n")
    except UnicodeDecodeError as error:
        line = b"\n".join(lines)[: error.start].count(b"\n") + 1
        raise InputError.at(path, line, "is not UTF-8 text") from None


def _places(path: Path, header: list[str], columns: Sequence[Column]) -> Mapping[str, int]:
    known = {name.strip().lower(): place for place, name in enumerate(header)}
    places: dict[str, int] = {}
    for column in columns:
        found = next((known[name] for name in column.names if name in known), None)
        if found is None:
            have = ", ".join(name.strip() for name in header)
            raise InputError.at(path, 1, f"has no column {column.field}; its header is {have[:120]!r}")
        places[column.field] = found
    return places


def _chosen(path: Path, line: int, cells: list[str], places: Mapping[str, int]) -> list[str]:
    try:
        return [cells[place].strip() for place in places.values()]
    except IndexError:
        missing = next(field for field, place in places.items() if place >= len(cells))
        raise InputError.at(path, line, f"{missing} is missing: the row has only {len(cells)} cells") from None
