"""The tokenizer's files: the engine reads no text, but it must not serve a model with another model's tokenizer."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tokenizers import Tokenizer

from coxswain_workers.engine.errors import TokenizerMismatchError, TokenizerMissingError

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def tokenizer_files(path: Path) -> dict[str, bytes]:
    """Content of the files a gateway needs, by name; those that are not there are left out."""
    return {name: (path / name).read_bytes() for name in FILES if (path / name).is_file()}


def tokenizer_digest(path: Path) -> str:
    """SHA-256 over names, sizes and contents of `tokenizer_files`."""
    digest = hashlib.sha256()
    for name, content in tokenizer_files(path).items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def check_tokenizer(path: Path, *, vocab_size: int) -> None:
    """Every id the tokenizer can produce has an embedding. Raises TokenizerMissingError, TokenizerMismatchError."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise TokenizerMissingError(f"tokenizer.json is not in {path}")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the binding raises plain Exception
        raise TokenizerMissingError(f"tokenizer.json cannot be read: {error}") from None
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= vocab_size:
        raise TokenizerMismatchError(
            f"tokenizer.json has token ids up to {highest}, config.json a vocab_size of {vocab_size}: "
            "the tokenizer belongs to another model"
        )
