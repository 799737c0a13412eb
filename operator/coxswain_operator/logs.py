"""Logs: one JSON object per line on stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec

from coxswain_operator.timestamps import micros

_EXTRA = ("service", "replica", "request_id", "gateway")


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `logger`, `message`, and what a record is about where it says so."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": micros(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str) -> None:
    """Send all logs of the process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # What kopf tells about every single event is of use to kopf's developers only.
    logging.getLogger("kopf").setLevel("WARNING")
    logging.getLogger("asyncio").setLevel("WARNING")
    logging.getLogger("aiohttp.access").setLevel("WARNING")
