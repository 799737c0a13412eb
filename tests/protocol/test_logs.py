"""One JSON object per line, whatever is logged."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from coxswain_protocol.logs import JsonFormatter


def line(message: str, *args: object, exc_info: bool = False, **extra: object) -> dict[str, object]:
    record = logging.getLogger("test").makeRecord(
        "test", logging.INFO, __file__, 1, message, args, sys.exc_info() if exc_info else None, extra=extra
    )
    text = JsonFormatter(replica="chat-serve-0-1").format(record)
    assert "\n" not in text
    loaded: dict[str, object] = json.loads(text)
    return loaded


def test_message_and_fields() -> None:
    found = line("finished %s", "well", request_id="r1", tokens=3)
    assert found["message"] == "finished well"
    assert found["level"] == "INFO"
    assert found["replica"] == "chat-serve-0-1"
    assert found["request_id"] == "r1"
    assert found["tokens"] == 3
    assert set(found) == {"time", "level", "message", "replica", "request_id", "tokens"}


def test_values_without_a_json_form_become_text() -> None:
    assert line("loaded", path=Path("/model"))["path"] == "/model"


def test_whole_objects_that_libraries_hang_on_records_are_left_out() -> None:
    found = line("seen", settings={"a": object()}, replicas=["r0", "r1"])
    assert "settings" not in found
    assert found["replicas"] == ["r0", "r1"]


def test_an_exception_stays_on_its_line() -> None:
    try:
        raise ValueError("two\nlines")  # noqa: TRY301
    except ValueError:
        found = line("failed", exc_info=True)
    assert "ValueError: two\nlines" in str(found["exception"])
