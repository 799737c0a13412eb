"""The pool of KV blocks of one engine, and the prefix cache that its free blocks make.

Reusable blocks form a tree: equal prefixes are one path from the root. What was computed, held and left together stays
together as one `Run`, so looking a prompt up, holding it, letting it go and evicting it cost a few operations per run
rather than some per block (a radix tree, as in SGLang). A run is held while a sequence ends in it or a run behind it is
held, which makes holding and letting go stop at the first run that others hold too.

Eviction is least recently released first and, within one prefix, from the end: a run enters the order of release
before the run in front of it, so whatever stands first has nothing behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items
from functools import cache
from typing import Any

from coxswain_scheduler.batching.runs import Name, Prefix, Released, Run, common


@cache
def _numbers(size: int) -> tuple[int, ...]:
    """The last first. Pools of one size share them, so that those of a simulated cluster fit the processor's cache."""
    return tuple(range(size - 1, -1, -1))


class OutOfBlocksError(Exception):
    """Every block is held by a sequence."""


class BlockPool:
    """Blocks 0 … size-1, each held by any number of sequences, reusable by hash, or blank.

    A block with a hash keeps its content when its last holder lets go, and can be held again by that hash until it is
    evicted, which happens only when no blank block is left. Hashes are chained (see `hashing`), and a hash names at
    most one block.
    """

    def __init__(self, *, size: int, events: bool = True) -> None:
        """`events`: whether `drain_events` will be called, and what it returns kept until then."""
        self.size = size
        self.root = Run(None, [], [])
        self.root.holders = 1
        self._blank: list[Any] = list(_numbers(size))
        self._idle = Released()
        self._idle_blocks = 0
        self._events: list[tuple[bool, list[Name]]] | None = [] if events else None

    @property
    def free(self) -> int:
        """Blocks that `allocate` could still hand out."""
        return len(self._blank) + self._idle_blocks

    def allocate(self, count: int) -> list[Any]:
        """Blocks for the caller alone, their content undefined. Raises OutOfBlocksError, and then takes none."""
        blocks: list[Any] = []
        self.add(count, blocks)
        return blocks

    def add(self, count: int, blocks: list[Any]) -> None:
        """Allocate, and append what is allocated."""
        if count <= 0:
            return
        if count > self.free:
            raise OutOfBlocksError(f"{count} KV blocks wanted, {self.free} of {self.size} are not held")
        if self._blank:
            blank = self._blank[-count:]
            del self._blank[-count:]
            blank.reverse()
            blocks += blank
            count -= len(blank)
        if count:
            self._evict(count, blocks)

    def match(self, hashes: list[Name], end: int) -> Prefix:
        """The longest known prefix of the first `end` of `hashes`. Nothing is held by asking."""
        return self._follow(self.root, hashes, 0, end)

    def depth(self, hashes: list[Name]) -> int:
        """How many of `hashes`, from the first on, are known."""
        run, depth, end = self.root, 0, len(hashes)
        while depth < end:
            behind = run.behind.get(hashes[depth])
            if behind is None:
                break
            names = behind.hashes
            after = depth + len(names)
            if after > end or hashes[after - 1] != names[-1]:
                return depth + common(names, hashes, depth, end)
            run, depth = behind, after
        return depth

    def idle(self, prefix: Prefix) -> int:
        """Blocks of `prefix` that nobody holds: `hold` would take so many from `free`."""
        run, count = prefix.run, prefix.taken
        idle = 0
        while run.holders == 0:
            idle += count
            assert run.parent is not None
            run = run.parent
            count = len(run.blocks)
        return idle

    def hold(self, prefix: Prefix) -> Run:
        """Hold the blocks that `match` found just before; the run where they end, to give to `release`."""
        run = prefix.run
        if prefix.taken < len(run.blocks):
            run = self._split(run, prefix.taken)
        self._hold(run)
        return run

    def register(self, tip: Run, hashes: list[Name], blocks: list[Any], start: int, end: int) -> Run:
        """Say that a sequence's blocks from `start` to before `end` are full, computed and named by its `hashes`.

        It holds them alone, behind `tip`. Returns where it now ends. Where others have computed the same meanwhile,
        theirs take the place of its own in `blocks`, and its own become blank.
        """
        name = hashes[start]
        if name in tip.behind:
            return self._share(tip, hashes, blocks, start, end)
        if self._events is not None:
            self._events.append((True, hashes[start:end]))
        if tip.holders == 1 and not tip.behind and tip.parent is not None:
            tip.grow(hashes, blocks, start, end)
            return tip
        run = Run(tip, hashes[start:end], blocks[start:end])
        run.holders = 1
        tip.behind[name] = run
        return run

    def release(self, tip: Run, blocks: Items[int] = ()) -> None:
        """Let go of the prefix that ends in `tip`, and of `blocks` that were never registered."""
        self._blank += reversed(blocks)
        self._release(tip)

    def drain_events(self) -> tuple[list[int], list[int]]:
        """Hashes (stored, removed) since the last call; what came and went in between is in neither."""
        stored: dict[Name, None] = {}
        removed: dict[Name, None] = {}
        for came, hashes in self._events or ():
            into, out_of = (stored, removed) if came else (removed, stored)
            for value in hashes:
                if value in out_of:
                    del out_of[value]
                else:
                    into[value] = None
        self._events = []
        return list(stored), list(removed)

    def hashes(self) -> tuple[int, ...]:
        """Every hash that can be held now, each behind those in front of it."""
        return tuple(value for run in self.runs() for value in run.hashes)

    def runs(self) -> Iterator[Run]:
        """Every run, each behind its parent."""
        stack = [self.root]
        while stack:
            run = stack.pop()
            yield run
            stack += run.behind.values()

    @staticmethod
    def _follow(run: Run, hashes: list[Name], start: int, end: int) -> Prefix:
        depth, taken = start, len(run.blocks)
        while depth < end:
            behind = run.behind.get(hashes[depth])
            if behind is None:
                break
            run = behind
            names = run.hashes
            taken = len(names)
            if depth + taken > end or hashes[depth + taken - 1] != names[-1]:
                taken = common(names, hashes, depth, end)
                depth += taken
                break
            depth += taken
        return Prefix(run, taken, depth)

    def _share(self, tip: Run, hashes: list[Name], blocks: list[Any], start: int, end: int) -> Run:
        """`register` where others have what comes first."""
        found = self._follow(tip, hashes, start, end)
        known = found.count
        self._blank += blocks[start:known][::-1]
        run = self.hold(found)
        self._release(tip)
        blocks[start:known] = run.path()[start - known :]
        return run if known == end else self.register(run, hashes, blocks, known, end)

    def _split(self, run: Run, count: int) -> Run:
        """Cut the first `count` blocks off into a run of their own, which is about to be held."""
        front = Run(run.parent, run.hashes[:count], run.blocks[:count])
        del run.hashes[:count], run.blocks[:count]
        front.behind[run.hashes[0]] = run
        assert run.parent is not None
        run.parent.behind[front.hashes[0]] = front
        run.parent = front
        if run.holders:
            front.holders = 1
        else:
            self._idle.add(front)
        return front

    def _hold(self, run: Run) -> None:
        run.holders += 1
        while run.holders == 1:
            self._idle.remove(run)
            self._idle_blocks -= len(run.blocks)
            assert run.parent is not None
            run = run.parent
            run.holders += 1

    def _release(self, run: Run) -> None:
        run.holders -= 1
        while run.holders == 0:
            self._idle.add(run)
            self._idle_blocks += len(run.blocks)
            assert run.parent is not None
            run = run.parent
            run.holders -= 1

    def _evict(self, count: int, blocks: list[Any]) -> None:
        """Add `count` blocks that were reusable: of the longest idle first, each prefix from its end."""
        self._idle_blocks -= count
        while count > 0:
            run = self._idle.oldest()
            theirs, names = run.blocks, run.hashes
            left = len(theirs) - count
            if left > 0:
                theirs = theirs[left:]
                if self._events is not None:
                    names = names[left:]
                del run.blocks[left:], run.hashes[left:]
            else:
                self._idle.remove(run)
                assert run.parent is not None
                del run.parent.behind[names[0]]
            if self._events is not None:
                self._events.append((False, names))
            theirs.reverse()
            blocks += theirs
            count -= len(theirs)
