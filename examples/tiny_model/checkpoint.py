"""A trained model on disk, in Hugging Face format: there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from examples.tiny_model import tokenizer
from examples.tiny_model.errors import OccupiedError
from examples.tiny_model.training import CONTEXT, Trained

RECORD = "training.json"
"""How the checkpoint came about, and the fingerprint by which it is known again."""

FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    RECORD,
)

_PARTIAL = re.compile(r"\..+\.partial-(?P<process>\d+)")


def holds(path: Path, *, fingerprint: str) -> bool:
    """Whether `path` is a complete checkpoint of this fingerprint."""
    if not all((path / name).is_file() for name in FILES):
        return False
    try:
        return bool(json.loads((path / RECORD).read_text())["fingerprint"] == fingerprint)
    except (ValueError, KeyError, TypeError):
        return False


def check_free(path: Path) -> None:
    """Raises OccupiedError unless `path` is missing or an empty directory."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OccupiedError(f"{path} exists and holds something else: remove it or name another directory")


def write(path: Path, trained: Trained, *, record: dict[str, Any]) -> None:
    """Write a checkpoint to `path`, with `record` as its training.json. Raises OccupiedError if something is there."""
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with _partial(path) as partial:
        _write_model(partial, trained)
        _write_json(partial / "tokenizer_config.json", tokenizer.config(context=CONTEXT))
        _write_json(partial / RECORD, record)
        _open_to_all(partial)
        partial.rename(path)


def sweep(folder: Path) -> None:
    """Remove what runs that were killed while they wrote have left in `folder`."""
    for path in folder.glob(".*.partial-*"):
        match = _PARTIAL.fullmatch(path.name)
        if match and not _is_alive(int(match["process"])):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_model(path: Path, trained: Trained) -> None:
    config = trained.model.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(path / "config.json", config)
    _write_json(path / "generation_config.json", ends | {"do_sample": True, "temperature": 0.7, "top_p": 0.95})
    weights = {name: tensor.contiguous() for name, tensor in trained.model.state_dict().items()}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    trained.tokenizer.save(str(path / "tokenizer.json"))


def _open_to_all(path: Path) -> None:
    """Pods read it as another user than the one who trained it."""
    path.chmod(0o755)
    for file in path.iterdir():
        file.chmod(0o644)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
