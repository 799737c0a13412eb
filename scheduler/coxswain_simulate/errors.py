"""What is wrong with what the user gave, in one line."""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """A file or a flag that cannot be used. The message is one line that names the file, the line and the field."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    @classmethod
    def at(cls, path: Path | str, line: int | None, problem: str) -> InputError:
        """The problem at a line of a file; None where it concerns the whole file."""
        return cls(f"{path}:{line}: {problem}" if line is not None else f"{path}: {problem}")
