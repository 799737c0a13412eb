"""Results as JSON files."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coxswain_simulate.errors import InputError


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write it there, or to standard output for `-`. Raises InputError where that is not possible."""
    text = json.dumps(document, allow_nan=False) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
        return
    try:
        path.write_text(text)
    except OSError as error:
        raise InputError.at(path, None, f"cannot be written: {error.strerror}") from None
