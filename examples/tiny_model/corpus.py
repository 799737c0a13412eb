"""The text to learn from: the source of the running interpreter's standard library, which every machine has."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from examples.tiny_model.errors import CorpusError

SKIPPED = frozenset({"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "__pycache__"})
"""Folders left out: what is not the standard library, its tests, and tables of data that read like no program."""


def read(root: Path | None = None) -> list[str]:
    """Texts of every source file under `root` (default: this interpreter's standard library), in path order.

    Raises CorpusError where there are none, as in an interpreter whose library is compiled or zipped.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in _source_files(root)]
    if not texts:
        raise CorpusError(f"there are no .py files under {root}: use a Python that comes with its library's source")
    return texts


def _source_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if not SKIPPED.intersection(path.relative_to(root).parts))
