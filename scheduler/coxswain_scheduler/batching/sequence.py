"""One request inside an engine, as far as batching is concerned."""

from __future__ import annotations

from collections.abc import Iterable

from coxswain_scheduler.batching.hashing import ROOT, block_hash


class Sequence:
    """Tokens known, tokens whose KV is computed, and the blocks that hold it."""

    __slots__ = ("_hashes", "block_size", "blocks", "cached", "computed", "id", "prompt_len", "registered", "tokens")

    def __init__(self, id: str, *, prompt: Iterable[int], output: Iterable[int] = (), block_size: int) -> None:  # noqa: A002
        self.id = id
        self.tokens = list(prompt)
        self.prompt_len = len(self.tokens)
        self.tokens.extend(output)
        self.block_size = block_size
        self.computed = 0
        self.blocks: list[int] = []
        self.registered = 0
        """Leading blocks that the pool was told about."""
        self.cached: int | None = None
        """Prompt tokens found in the prefix cache at first admission."""
        self._hashes: list[int] = []

    @property
    def pending(self) -> int:
        """Known tokens not yet computed: 1 when decoding, more when prefilling."""
        return len(self.tokens) - self.computed

    def blocks_for(self, tokens: int) -> int:
        """How many blocks the first `tokens` tokens take."""
        return -(-tokens // self.block_size)

    def hashes(self, count: int) -> list[int]:
        """Hashes of the first `count` blocks, which must be full. Each is computed once."""
        size = self.block_size
        while len(self._hashes) < count:
            start = len(self._hashes) * size
            parent = self._hashes[-1] if self._hashes else ROOT
            self._hashes.append(block_hash(parent, self.tokens[start : start + size]))
        return self._hashes[:count]
