"""Mooncake's traces: JSON lines with a timestamp in ms, lengths, and a hash id for every 512 prompt tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from coxswain_scheduler.simulator.trace import Trace
from coxswain_simulate.errors import InputError
from coxswain_simulate.traces.lines import MAX_TOKENS, Line, read_lines

CHUNK_TOKENS = 512

_Tokens = Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)]
_LAST_MS = 1e14


class _Request(msgspec.Struct):
    timestamp: Annotated[float, msgspec.Meta(ge=0, le=_LAST_MS)]
    input_length: _Tokens
    output_length: _Tokens
    hash_ids: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]


def read(path: Path) -> Iterator[Line]:
    """The file's requests, in its order. Raises InputError."""
    decode = msgspec.json.Decoder(_Request).decode
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.isspace():
            continue
        try:
            request = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError.at(path, number, _told(str(error))) from None
        wanted = -(-request.input_length // CHUNK_TOKENS)
        if len(request.hash_ids) != wanted:
            raise InputError.at(
                path,
                number,
                f"hash_ids has {len(request.hash_ids)} ids; input_length {request.input_length} needs {wanted}, "
                f"one for every {CHUNK_TOKENS} tokens",
            )
        yield Line(request.timestamp / 1e3, request.input_length, request.output_length, request.hash_ids)


def write(trace: Trace, path: Path) -> None:
    """Write a trace in this format, in whole ms. Requests that share nothing get hash ids of their own.

    Raises InputError where the file cannot be written, or the trace's chunks are not 512 tokens.
    """
    shares = any(request.chunks for request in trace.requests)
    if shares and trace.chunk_tokens != CHUNK_TOKENS:
        raise InputError(f"{trace.name}: chunks of {trace.chunk_tokens} tokens cannot be written in Mooncake's format")
    fresh = 1 + max((chunk for request in trace.requests for chunk in request.chunks), default=-1)
    try:
        with path.open("wb") as file:
            for request in trace.requests:
                ids = request.chunks
                if not ids:
                    count = -(-request.prompt_tokens // CHUNK_TOKENS)
                    ids, fresh = tuple(range(fresh, fresh + count)), fresh + count
                record = {
                    "timestamp": round(request.arrival * 1e3),
                    "input_length": request.prompt_tokens,
                    "output_length": request.output_tokens,
                    "hash_ids": ids,
                }
                file.write(msgspec.json.encode(record) + b"\n")
    except OSError as error:
        raise InputError.at(path, None, f"cannot be written: {error.strerror}") from None


def _told(message: str) -> str:
    """The decoder's message with the field first."""
    problem, _, place = message.partition(" - at `$.")
    field = place.rstrip("`")
    return f"{field}: {problem}" if field else problem
