"""The text side of a model: what a replica announces as tokenizer files, made usable.

Gateways mount no model. Replicas name their tokenizer by digest, and send its files to a gateway that lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from tokenizers import Tokenizer

from coxswain_gateway.template import ChatTemplate, TemplateError
from coxswain_gateway.text import ByteDetokenizer, ByteTable, Detokenizer, WindowDetokenizer, is_byte_level

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerError(Exception):
    """The files are not a tokenizer this gateway can use; the message says which and why."""


class ModelText:
    """Encodes prompts, renders chats, and decodes tokens of one tokenizer. Safe to use from several threads."""

    def __init__(self, digest: str, files: Mapping[str, bytes]) -> None:
        self.digest = digest
        if "tokenizer.json" not in files:
            raise TokenizerError("tokenizer.json is missing")
        try:
            self._tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(f"tokenizer.json cannot be read: {error}") from None
        self._table = ByteTable(self._tokenizer) if is_byte_level(files["tokenizer.json"]) else None
        self._template = _chat_template(files)

    def encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        """Token ids of a text. Raises ValueError when it is not Unicode (a lone surrogate)."""
        try:
            return tuple(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)
        except (UnicodeEncodeError, TypeError) as error:
            raise ValueError(f"the text is not valid Unicode: {error}") from None

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """A conversation as prompt text. Raises TemplateError."""
        if self._template is None:
            raise TemplateError("the model has no chat template; use /v1/completions")
        return self._template.render(messages, **variables)

    def detokenizer(self, *, skip_special: bool = True) -> Detokenizer:
        """A fresh one, for one sequence."""
        if self._table is not None:
            return ByteDetokenizer(self._table, skip_special=skip_special)
        return WindowDetokenizer(self._tokenizer, skip_special=skip_special)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token alone, as log-probabilities report them; special tokens by name."""
        if self._table is not None:
            return self._table.bytes_of(token)
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text.encode()


def _chat_template(files: Mapping[str, bytes]) -> ChatTemplate | None:
    config = _config(files)
    source = files["chat_template.jinja"].decode() if "chat_template.jinja" in files else config.get("chat_template")
    if isinstance(source, list):
        source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
    if not source:
        return None
    tokens = {name: _content(config[name]) for name in _NAMED if config.get(name) is not None}
    return ChatTemplate(source, tokens)


def _config(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        return msgspec.json.decode(files.get("tokenizer_config.json", b"{}"), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise TokenizerError(f"tokenizer_config.json cannot be read: {error}") from None


def _content(token: Any) -> str:
    """A special token is written as its text, or as an object that describes it."""
    return str(token["content"]) if isinstance(token, dict) else str(token)
