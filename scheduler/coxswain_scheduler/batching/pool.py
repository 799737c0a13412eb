"""The pool of KV blocks of one engine, and the prefix cache that its free blocks make."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable


class OutOfBlocksError(Exception):
    """Every block is held by a sequence."""


class BlockPool:
    """Blocks 0 … size-1, each held by any number of sequences, reusable by hash, or blank.

    A block with a hash keeps its content when its last holder lets go, and can be acquired by that hash until it is
    evicted: least recently released first, and only when no blank block is left. A hash names at most one block.
    """

    def __init__(self, *, size: int) -> None:
        self.size = size
        self._holders = [0] * size
        self._hash_of: list[int | None] = [None] * size
        self._block_of: dict[int, int] = {}
        self._blank = list(range(size - 1, -1, -1))
        self._reusable: OrderedDict[int, None] = OrderedDict()
        self._stored: dict[int, None] = {}
        self._removed: dict[int, None] = {}

    @property
    def free(self) -> int:
        """Blocks that `allocate` could still hand out."""
        return len(self._blank) + len(self._reusable)

    def allocate(self) -> int:
        """A block for the caller alone, its content undefined. Raises OutOfBlocksError."""
        if self._blank:
            block = self._blank.pop()
        elif self._reusable:
            block, _ = self._reusable.popitem(last=False)
            self._forget(block)
        else:
            raise OutOfBlocksError(f"all {self.size} KV blocks are held")
        self._holders[block] = 1
        return block

    def match(self, hashes: Iterable[int]) -> list[int]:
        """Blocks of the longest known prefix of `hashes`, in order. Nothing is acquired."""
        blocks: list[int] = []
        for value in hashes:
            block = self._block_of.get(value)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def acquire(self, blocks: Iterable[int]) -> None:
        """Hold blocks that `match` found, or that another sequence holds."""
        for block in blocks:
            if not self._holders[block]:
                del self._reusable[block]
            self._holders[block] += 1

    def held(self, block: int) -> bool:
        """Whether some sequence holds `block`."""
        return self._holders[block] > 0

    def register(self, block: int, value: int) -> None:
        """Say that the held `block` is now full and computed. Where another block has that hash, that one keeps it."""
        if value in self._block_of:
            return
        self._block_of[value] = block
        self._hash_of[block] = value
        if value in self._removed:
            del self._removed[value]
        else:
            self._stored[value] = None

    def release(self, blocks: Iterable[int]) -> None:
        """Let go of blocks. Give a sequence's last block first: of one prefix, the end is then evicted first."""
        for block in blocks:
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if self._hash_of[block] is None:
                self._blank.append(block)
            else:
                self._reusable[block] = None

    def drain_events(self) -> tuple[list[int], list[int]]:
        """Hashes (stored, removed) since the last call; what came and went in between is in neither."""
        events = list(self._stored), list(self._removed)
        self._stored, self._removed = {}, {}
        return events

    def hashes(self) -> tuple[int, ...]:
        """Every hash that can be acquired now."""
        return tuple(self._block_of)

    def _forget(self, block: int) -> None:
        value = self._hash_of[block]
        assert value is not None
        del self._block_of[value]
        self._hash_of[block] = None
        if value in self._stored:
            del self._stored[value]
        else:
            self._removed[value] = None
