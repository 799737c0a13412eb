"""Engines by the name of a profile, or from a timing file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from coxswain_scheduler.costs.profiles import EngineProfile, profile, profile_of_timing_file
from coxswain_scheduler.simulator.setup import EngineSpec
from coxswain_simulate.errors import InputError
from coxswain_simulate.traces.mooncake import CHUNK_TOKENS


def profile_named(text: str) -> EngineProfile:
    """The profile of that name, or of the timing file at that path. Raises InputError."""
    if "/" in text or text.endswith(".json") or Path(text).is_file():
        found = _of_file(Path(text))
    else:
        try:
            found = profile(text)
        except ValueError as error:
            raise InputError(str(error)) from None
    if CHUNK_TOKENS % found.block_size:
        raise InputError(
            f"{text}: block_size is {found.block_size}; it must divide the {CHUNK_TOKENS} tokens of a chunk"
        )
    return found


def spec_of(found: EngineProfile, *, startup_seconds: float | None = None) -> EngineSpec:
    """The simulator's engine of a profile; `startup_seconds` replaces the profile's own."""
    return EngineSpec(
        timing=found.timing,
        accelerator=found.accelerator,
        total_blocks=found.total_blocks,
        block_size=found.block_size,
        max_num_seqs=found.max_num_seqs,
        step_tokens=found.step_tokens,
        startup_seconds=found.startup_seconds if startup_seconds is None else startup_seconds,
        gpus=found.gpus,
    )


def _of_file(path: Path) -> EngineProfile:
    try:
        text = path.read_text("utf-8")
        document = json.loads(text)
    except OSError as error:
        raise InputError.at(path, None, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError.at(path, 1, "is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InputError.at(path, error.lineno, f"is not JSON: {error.msg}") from None
    except RecursionError:
        raise InputError.at(path, 1, "is not a timing file: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise InputError.at(path, 1, "is not a timing file: expected an object with prefill, decode and sizes")
    try:
        return profile_of_timing_file(document, name=path.name)
    except ValueError as error:
        raise InputError.at(path, _line_of(text, str(error).partition(":")[0]), str(error)) from None


def _line_of(text: str, field: str) -> int:
    """The line of a field such as `prefill.a`; of what encloses it where it is missing."""
    place = 0
    for name in field.split("."):
        if (found := re.compile(rf'"{re.escape(name)}"\s*:').search(text, place)) is None:
            break
        place = found.start()
    return text.count("\n", 0, place) + 1
