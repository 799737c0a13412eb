"""What sequences hold of the pool: taken as they grow, registered as it fills, let go of when they leave."""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter

from coxswain_scheduler.batching.pool import BlockPool, Prefix
from coxswain_scheduler.batching.sequence import Sequence

_STEP_AND_ORDER = itemgetter(0, 1)
Taking = tuple[int, int, Sequence]
"""In which step, in which place in the order of running, and who takes a block."""


class Holdings:
    """One pool's blocks in the hands of sequences."""

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self.pool = pool
        self.block_size = block_size

    def find(self, sequence: Sequence) -> Prefix | None:
        """What it can reuse; None while all of its tokens together do not find blocks."""
        reused = self.pool.match(sequence.hashes((sequence.length - 1) // self.block_size))
        wanted = sequence.blocks_for(sequence.length) - reused.count
        return reused if wanted <= self.pool.free - self.pool.idle(reused) else None

    def begin(self, sequence: Sequence, reused: Prefix) -> None:
        """Hold what was found just before."""
        sequence.tip = self.pool.hold(reused)
        sequence.blocks = sequence.tip.path()
        sequence.registered = reused.count
        sequence.computed = reused.count * self.block_size
        if sequence.cached is None:
            sequence.cached = min(sequence.computed, sequence.prompt_len)

    def extend(self, sequence: Sequence, tokens: int) -> bool:
        """Hold blocks for its first `tokens` tokens; False where there are not enough, and then none is taken."""
        missing = sequence.blocks_for(tokens) - len(sequence.blocks)
        if missing > self.pool.free:
            return False
        sequence.blocks += self.pool.allocate(missing)
        return True

    def register(self, sequence: Sequence) -> None:
        """Make its full blocks reusable."""
        if (full := sequence.computed // self.block_size) > sequence.registered:
            self._register(sequence, full)

    def free(self, sequence: Sequence) -> None:
        """Let go of everything."""
        if sequence.tip is not None:
            self.pool.release(sequence.tip, sequence.blocks[sequence.registered :])
        sequence.tip = None
        sequence.blocks = []
        sequence.registered = 0
        sequence.computed = 0

    def decode(self, sequences: Collection[Sequence], steps: int) -> None:
        """Let each, of which all tokens but the last are computed, compute `steps` more, one in each step."""
        size = self.block_size
        left = size - steps
        leaving: list[Sequence] = []
        for sequence in sequences:
            computed = sequence.computed
            sequence.computed = end = computed + steps
            sequence.length = end + 1
            if not 0 < computed % size < left:  # most stay within a block
                leaving.append(sequence)
        if leaving:
            self._leave_blocks(leaving, steps)

    def _leave_blocks(self, leaving: list[Sequence], steps: int) -> None:
        """Some have computed the last token of a block, or the first: in order of running."""
        size = self.block_size
        taking: list[Taking] = []
        filling: list[Sequence] = []
        for order, sequence in enumerate(leaving):
            end = sequence.computed
            if (held := len(sequence.blocks) * size) < end:
                taking += [(step - end + steps, order, sequence) for step in range(held, end, size)]
            if end // size > sequence.registered:
                filling.append(sequence)
        if filling and self._known(filling):
            self._take_and_register(taking, filling, steps)
        elif taking or filling:
            self._take(taking)
            for sequence in filling:
                self._register(sequence, sequence.computed // size)

    def _take(self, taking: list[Taking]) -> None:
        """In the order in which single steps would: by step, then by order of running."""
        taking.sort(key=_STEP_AND_ORDER)
        for (_, _, sequence), block in zip(taking, self.pool.allocate(len(taking)), strict=True):
            sequence.blocks.append(block)

    def _known(self, filling: list[Sequence]) -> bool:
        """Whether one of them fills a block that another has, or will have: then its own becomes blank."""
        names: set[int] = set()
        for sequence in filling:
            name = sequence.name(sequence.registered)
            assert sequence.tip is not None
            if name in names or name in sequence.tip.behind:
                return True
            names.add(name)
        return False

    def _take_and_register(self, taking: list[Taking], filling: list[Sequence], steps: int) -> None:
        """Block by block: what one step registers may be blank for the next."""
        size = self.block_size
        last = 1 + max((order for _, order, _ in taking), default=0)
        for sequence in filling:
            before = sequence.computed - steps
            full = range(sequence.registered + 1, sequence.computed // size + 1)
            taking += [(block * size - before - 1, last, sequence) for block in full]
        for _, order, sequence in sorted(taking, key=_STEP_AND_ORDER):
            if order < last:
                sequence.blocks += self.pool.allocate(1)
            else:
                self._register(sequence, sequence.registered + 1)

    def _register(self, sequence: Sequence, full: int) -> None:
        known = sequence.registered
        assert sequence.tip is not None
        mine = sequence.blocks[known:full]
        sequence.tip, blocks = self.pool.register(sequence.tip, sequence.hashes(full, known), mine)
        if blocks is not mine:
            sequence.blocks[known:full] = blocks
        sequence.registered = full
