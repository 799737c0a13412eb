"""One request inside an engine, as far as batching is concerned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from coxswain_scheduler.batching.hashing import ROOT, block_hash
from coxswain_scheduler.batching.runs import Name, Run


class Sequence:
    """How many tokens are known, of how many the KV is computed, and the blocks that hold it.

    Batching never looks at a token: it counts them, and asks for hashes of full blocks. `TokenSequence` has the tokens.
    """

    __slots__ = (
        "_hashes",
        "arriving",
        "block_size",
        "blocks",
        "cached",
        "computed",
        "id",
        "length",
        "prompt_len",
        "rank",
        "registered",
        "tip",
    )

    def __init__(self, id: str, *, prompt_len: int, block_size: int, output_len: int = 0, rank: float = 0.0) -> None:  # noqa: A002
        self.id = id
        self.prompt_len = prompt_len
        self.length = prompt_len + output_len
        """Tokens known."""
        self.block_size = block_size
        self.rank = rank
        """Lower is admitted earlier and gives way later; equals in order of arrival."""
        self.computed = 0
        self.arriving = 0
        """Leading tokens whose KV another engine sends: they are not computed here unless they are lost again."""
        self.blocks: list[Any] = []
        self.registered = 0
        """Leading blocks that can be reused by others."""
        self.tip: Run | None = None
        """Where they end in the pool; None while no block is held."""
        self.cached: int | None = None
        """Prompt tokens found in the prefix cache at first admission."""
        self._hashes: list[Name] = []

    @property
    def pending(self) -> int:
        """Known tokens not yet computed: 1 when decoding, more when prefilling."""
        return self.length - self.computed

    def blocks_for(self, tokens: int) -> int:
        """How many blocks the first `tokens` tokens take."""
        return -(-tokens // self.block_size)

    def hashes(self, end: int) -> list[Name]:
        """Hashes of the first `end` blocks, which must be full, and perhaps of more: not to be changed, and each is
        computed once."""
        hashes = self._hashes
        while len(hashes) < end:
            hashes.append(self._hash(len(hashes)))
        return hashes

    def name(self, block: int) -> Name:
        """Hash of one full block."""
        return self.hashes(block + 1)[block]

    def _hash(self, block: int) -> Name:
        """Of a full block, when those of all blocks in front of it are known."""
        raise NotImplementedError


class TokenSequence(Sequence):
    """A sequence with its tokens."""

    __slots__ = ("tokens",)

    def __init__(self, id: str, *, prompt: Iterable[int], output: Iterable[int] = (), block_size: int) -> None:  # noqa: A002
        self.tokens = list(prompt)
        super().__init__(id, prompt_len=len(self.tokens), block_size=block_size)
        for token in output:
            self.append(token)

    def append(self, token: int) -> None:
        """One more token of output."""
        self.tokens.append(token)
        self.length += 1

    def _hash(self, block: int) -> Name:
        start = block * self.block_size
        parent = self._hashes[-1] if self._hashes else ROOT
        return block_hash(parent, self.tokens[start : start + self.block_size])
