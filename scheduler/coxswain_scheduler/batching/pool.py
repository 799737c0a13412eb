"""The pool of KV blocks of one engine, and the prefix cache that its free blocks make.

Reusable blocks form a tree: equal prefixes are one path from the root. What was computed, held and left together stays
together as one `Run`, so looking a prompt up, holding it, letting it go and evicting it cost a few operations per run
rather than some per block (a radix tree, as in SGLang). A run is held while a sequence ends in it or a run behind it is
held, which makes holding and letting go stop at the first run that others hold too.

Eviction is least recently released first and, within one prefix, from the end: a run enters the order of release
before the run in front of it, so whatever stands first has nothing behind it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Sequence as Items


class OutOfBlocksError(Exception):
    """Every block is held by a sequence."""


class Run:
    """Full blocks that follow one another, each reusable by its hash. `holders`: sequences ending here, runs behind."""

    __slots__ = ("behind", "blocks", "hashes", "holders", "parent")

    def __init__(self, parent: Run | None, hashes: list[int], blocks: list[int]) -> None:
        self.parent = parent
        self.hashes = hashes
        self.blocks = blocks
        self.behind: dict[int, Run] = {}
        self.holders = 0

    def path(self) -> list[int]:
        """Every block from the first of the prefix to the last of this run."""
        pieces: list[list[int]] = []
        run: Run | None = self
        while run is not None:
            pieces.append(run.blocks)
            run = run.parent
        return [block for piece in reversed(pieces) for block in piece]


class Prefix:
    """What `BlockPool.match` found: `count` leading blocks, the last `taken` of them in `run`."""

    __slots__ = ("count", "run", "taken")

    def __init__(self, run: Run, taken: int, count: int) -> None:
        self.run = run
        self.taken = taken
        self.count = count


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
        self._blank = list(range(size - 1, -1, -1))
        self._idle: OrderedDict[Run, None] = OrderedDict()
        self._idle_blocks = 0
        self._events: list[tuple[bool, list[int]]] | None = [] if events else None

    @property
    def free(self) -> int:
        """Blocks that `allocate` could still hand out."""
        return len(self._blank) + self._idle_blocks

    def allocate(self, count: int) -> list[int]:
        """Blocks for the caller alone, their content undefined. Raises OutOfBlocksError, and then takes none."""
        if count <= 0:
            return []
        if count > self.free:
            raise OutOfBlocksError(f"{count} KV blocks wanted, {self.free} of {self.size} are not held")
        blocks = self._blank[: -count - 1 : -1]
        del self._blank[-count:]
        if len(blocks) < count:
            blocks += self._evict(count - len(blocks))
        return blocks

    def match(self, hashes: Items[int]) -> Prefix:
        """The longest known prefix of `hashes`. Nothing is held by asking."""
        return self._follow(self.root, hashes, 0)

    def depth(self, hashes: Items[int]) -> int:
        """How many of `hashes`, from the first on, are known."""
        run, depth, end = self.root, 0, len(hashes)
        while depth < end:
            behind = run.behind.get(hashes[depth])
            if behind is None:
                break
            run = behind
            length = len(run.hashes)
            if hashes[depth : depth + length] != run.hashes:
                return depth + _common(run.hashes, hashes, depth)
            depth += length
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

    def register(self, tip: Run, hashes: list[int], blocks: list[int]) -> tuple[Run, list[int]]:
        """Say that `blocks`, held by one sequence alone behind `tip`, are full, computed and named by `hashes`.

        Returns where the sequence now ends, and the blocks that it now holds there: where others have computed the
        same meanwhile, theirs, and its own become blank.
        """
        if hashes[0] in tip.behind:
            found = self._follow(tip, hashes, 0)
            self._blank += blocks[: found.count][::-1]
            run = self.hold(found)
            self._release(tip)
            theirs = run.path()[-found.count :]
            if found.count < len(hashes):
                run, rest = self.register(run, hashes[found.count :], blocks[found.count :])
                theirs += rest
            return run, theirs
        if self._events is not None:
            self._events.append((True, hashes))
        if tip.holders == 1 and not tip.behind and tip.parent is not None:
            tip.hashes += hashes
            tip.blocks += blocks
            return tip, blocks
        run = Run(tip, list(hashes), list(blocks))
        run.holders = 1
        tip.behind[hashes[0]] = run
        return run, blocks

    def release(self, tip: Run, blocks: Items[int] = ()) -> None:
        """Let go of the prefix that ends in `tip`, and of `blocks` that were never registered."""
        self._blank += reversed(blocks)
        self._release(tip)

    def drain_events(self) -> tuple[list[int], list[int]]:
        """Hashes (stored, removed) since the last call; what came and went in between is in neither."""
        stored: dict[int, None] = {}
        removed: dict[int, None] = {}
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
    def _follow(run: Run, hashes: Items[int], start: int) -> Prefix:
        depth, taken, end = start, len(run.blocks), len(hashes)
        while depth < end:
            behind = run.behind.get(hashes[depth])
            if behind is None:
                break
            run = behind
            names = run.hashes
            length = len(names)
            if hashes[depth : depth + length] != names:
                length = _common(names, hashes, depth)
                return Prefix(run, length, depth + length)
            depth += length
            taken = length
        return Prefix(run, taken, depth)

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
            self._idle[front] = None
        return front

    def _hold(self, run: Run) -> None:
        run.holders += 1
        while run.holders == 1:
            del self._idle[run]
            self._idle_blocks -= len(run.blocks)
            assert run.parent is not None
            run = run.parent
            run.holders += 1

    def _release(self, run: Run) -> None:
        run.holders -= 1
        while run.holders == 0:
            self._idle[run] = None
            self._idle_blocks += len(run.blocks)
            assert run.parent is not None
            run = run.parent
            run.holders -= 1

    def _evict(self, count: int) -> list[int]:
        """`count` blocks that were reusable, the longest idle first, each prefix from its end."""
        blocks: list[int] = []
        self._idle_blocks -= count
        while count > 0:
            run = next(iter(self._idle))
            theirs, names = run.blocks, run.hashes
            if len(theirs) > count:
                blocks += theirs[: -count - 1 : -1]
                if self._events is not None:
                    self._events.append((False, names[-count:]))
                del theirs[-count:], names[-count:]
                break
            blocks += theirs[::-1]
            if self._events is not None:
                self._events.append((False, names))
            del self._idle[run]
            assert run.parent is not None
            del run.parent.behind[names[0]]
            count -= len(theirs)
        return blocks


def _common(names: list[int], hashes: Items[int], depth: int) -> int:
    """How many leading items agree, at least one; chained hashes that differ once differ for ever."""
    agree, differ = 1, min(len(names), len(hashes) - depth)
    while agree < differ:
        middle = (agree + differ) // 2
        if names[middle] == hashes[depth + middle]:
            agree = middle + 1
        else:
            differ = middle
    return agree
