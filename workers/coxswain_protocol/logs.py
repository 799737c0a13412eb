"""Logs of every process: one JSON object per line on stderr.

`configure(replica="chat-serve-0-1")` once at start; then `log.info("accepted", extra={"request_id": "…"})`. What is in
`extra` becomes a field of the line, beside `time`, `level`, `message` and the process's own fields. Only plain values
and lists do: libraries hang whole objects on their records for each other.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_PLAIN = (str, int, float, bool, list, tuple, Path)
_encoder = msgspec.json.Encoder(enc_hook=str)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; `fields` are added to every line."""

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """Encode `record`. Values that JSON has no form for are written as their `str`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            **self._fields,
        }
        line.update((key, value) for key, value in vars(record).items() if _is_extra(key, value))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encoder.encode(line).decode()


def _is_extra(key: str, value: object) -> bool:
    return isinstance(value, _PLAIN) and key not in _STANDARD and not key.startswith("_")


def configure(*, level: str = "INFO", stream: TextIO | None = None, **fields: str) -> None:
    """Send all logging of this process as JSON to `stream` (stderr), with `fields` on each line. Replaces handlers."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(**fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
