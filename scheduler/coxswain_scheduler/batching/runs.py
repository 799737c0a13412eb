"""What the prefix tree of a pool is made of, and the order in which it is given up.

Names are whole numbers. Compiled code takes a `Name` as the object that it is: to look one up, nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Name = Any
"""An `int`: the chained hash of a full block. Two prefixes with the same last name are the same."""


class Run:
    """Full blocks that follow one another, each reusable by its hash. `holders`: sequences ending here, runs behind."""

    __slots__ = ("behind", "blocks", "hashes", "holders", "newer", "older", "parent")

    def __init__(self, parent: Run | None, hashes: list[Name], blocks: list[Any]) -> None:
        self.parent = parent
        self.hashes = hashes
        self.blocks = blocks
        self.behind: dict[Name, Run] = {}
        self.holders = 0
        self.older: Run | None = None
        self.newer: Run | None = None
        """Released before and after this one, while nobody holds it."""

    def grow(self, hashes: list[Name], blocks: list[Any], start: int, end: int) -> None:
        """Add the blocks from `start` to before `end` of a sequence."""
        if end - start == 1:  # as decoding goes: two slices would cost more than all the rest
            self.hashes.append(hashes[start])
            self.blocks.append(blocks[start])
        else:
            self.hashes += hashes[start:end]
            self.blocks += blocks[start:end]

    def path(self) -> list[Any]:
        """Every block from the first of the prefix to the last of this run."""
        pieces: list[list[Any]] = []
        run: Run | None = self
        while run is not None:
            pieces.append(run.blocks)
            run = run.parent
        pieces.reverse()
        path: list[Any] = []
        for piece in pieces:
            path += piece
        return path


class Prefix:
    """What `BlockPool.match` found: `count` leading blocks, the last `taken` of them in `run`."""

    __slots__ = ("count", "run", "taken")

    def __init__(self, run: Run, taken: int, count: int) -> None:
        self.run = run
        self.taken = taken
        self.count = count


class Released:
    """Runs that nobody holds, in the order in which they were let go: a ring of links, so that each can leave it."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = end = Run(None, [], [])
        end.older = end.newer = end

    def __iter__(self) -> Iterator[Run]:
        """The oldest first."""
        run = self._end.newer
        while run is not None and run is not self._end:
            yield run
            run = run.newer

    def oldest(self) -> Run:
        """The one released first; only while there is any."""
        run = self._end.newer
        assert run is not None
        return run

    def add(self, run: Run) -> None:
        """It is let go now."""
        end = self._end
        last = end.older
        assert last is not None
        run.older, run.newer = last, end
        last.newer = end.older = run

    def remove(self, run: Run) -> None:
        """It is held again, or given up."""
        older, newer = run.older, run.newer
        assert older is not None and newer is not None
        older.newer, newer.older = newer, older
        run.older = run.newer = None


def common(names: list[Name], hashes: list[Name], depth: int, end: int) -> int:
    """How many `names` agree with `hashes` from `depth` on; chained hashes that differ once differ for ever.

    At least the first does, and what is at `end` or behind it is not looked at.
    """
    agree, differ = 1, min(len(names), end - depth)
    while agree < differ:
        middle = (agree + differ) // 2
        if names[middle] == hashes[depth + middle]:
            agree = middle + 1
        else:
            differ = middle
    return agree
