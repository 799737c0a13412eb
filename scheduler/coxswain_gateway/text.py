"""From token ids to text, one token at a time, right across token borders.

A character may be spread over several tokens, so a token's text is not the text it adds. Whatever the split, the
pieces of one sequence join to exactly what decoding all its tokens at once gives.
"""

from __future__ import annotations

import codecs
import json
from typing import Protocol

from tokenizers import Tokenizer


class Detokenizer(Protocol):
    """Turns the tokens of one sequence into text."""

    def feed(self, token: int) -> str:
        """The text that is certain with this token; empty while a character is incomplete."""

    def flush(self) -> str:
        """What is left at the end: U+FFFD for characters that never became complete."""


class ByteTable:
    """The bytes of each token of a byte-level vocabulary (GPT-2, Llama 3, Qwen), special tokens being empty."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        alphabet = _byte_alphabet()
        special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self.plain = [b""] * (max(vocabulary.values(), default=-1) + 1)
        self.special = dict.fromkeys(range(0), b"")
        for token, number in vocabulary.items():
            data = _bytes_of(token, alphabet)
            if token in special:
                self.special[number] = data
            else:
                self.plain[number] = data

    def bytes_of(self, token: int) -> bytes:
        """Bytes of any token, special ones included."""
        if token in self.special:
            return self.special[token]
        return self.plain[token] if 0 <= token < len(self.plain) else b""


class ByteDetokenizer:
    """Byte-level vocabularies: tokens are bytes, and UTF-8 decoding is incremental by nature."""

    __slots__ = ("_bytes", "_decode")

    def __init__(self, table: ByteTable, *, skip_special: bool = True) -> None:
        self._bytes = table.plain if skip_special else [table.bytes_of(token) for token in range(len(table.plain))]
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, token: int) -> str:
        """See Detokenizer."""
        return self._decode(self._bytes[token]) if 0 <= token < len(self._bytes) else ""

    def flush(self) -> str:
        """See Detokenizer."""
        return self._decode(b"", True)


class WindowDetokenizer:
    """Any other vocabulary: decode a short window with and without the new token and take the difference.

    The method of TGI and vLLM: the window starts a few tokens back, because decoders treat the first token specially.
    """

    _WIDTH = 6

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._window: list[int] = []
        self._read = 0

    def feed(self, token: int) -> str:
        """See Detokenizer."""
        self._window.append(token)
        before, after = self._decode(self._window[: self._read]), self._decode(self._window)
        if after.endswith("�") or len(after) <= len(before):
            return ""
        self._trim()
        return after[len(before) :]

    def flush(self) -> str:
        """See Detokenizer."""
        before, after = self._decode(self._window[: self._read]), self._decode(self._window)
        self._read = len(self._window)
        return after[len(before) :]

    def _trim(self) -> None:
        self._read = len(self._window)
        if self._read > 2 * self._WIDTH:
            del self._window[: -self._WIDTH]
            self._read = self._WIDTH

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=self._skip_special)
        return text


def is_byte_level(tokenizer_json: bytes) -> bool:
    """Whether the tokenizer's decoder joins bytes and does nothing else."""
    decoder = json.loads(tokenizer_json).get("decoder") or {}
    steps = decoder.get("decoders", []) if decoder.get("type") == "Sequence" else [decoder]
    return [step.get("type") for step in steps] == ["ByteLevel"]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes: printable Latin-1 stands for itself, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _bytes_of(token: str, alphabet: dict[str, int]) -> bytes:
    """A token outside the alphabet (an added one) stands for its own text, as the ByteLevel decoder has it."""
    try:
        return bytes([alphabet[character] for character in token])
    except KeyError:
        return token.encode()
