"""What sequences hold of the pool: taken as they grow, registered as it fills, let go of when they leave."""

from __future__ import annotations

from collections.abc import Collection

from coxswain_scheduler.batching.pool import BlockPool
from coxswain_scheduler.batching.runs import Name, Prefix
from coxswain_scheduler.batching.sequence import Sequence


class Holdings:
    """One pool's blocks in the hands of sequences."""

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self.pool = pool
        self.block_size = block_size

    def find(self, sequence: Sequence) -> Prefix | None:
        """What it can reuse; None while all of its tokens together do not find blocks."""
        full = (sequence.length - 1) // self.block_size
        reused = self.pool.match(sequence.hashes(full), full)
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
        self.pool.add(missing, sequence.blocks)
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
        size, turn = self.block_size, 2 * len(leaving)
        taking: list[int] = []
        """Who takes a block, in the order in which single steps would have it: step · turn + place in `leaving`."""
        filling: list[Sequence] = []
        for place, sequence in enumerate(leaving):
            end = sequence.computed
            held = len(sequence.blocks) * size
            while held < end:
                taking.append((held - end + steps) * turn + place)
                held += size
            if end // size > sequence.registered:
                filling.append(sequence)
        if filling and self._known(filling):
            self._take_and_register(leaving, taking, steps)
            return
        if taking:
            self._take(leaving, taking)
        for sequence in filling:
            self._register(sequence, sequence.computed // size)

    def _take(self, leaving: list[Sequence], taking: list[int]) -> None:
        """In the order in which single steps would."""
        taking.sort()
        turn, blocks = 2 * len(leaving), self.pool.allocate(len(taking))
        for index, taker in enumerate(taking):
            leaving[taker % turn].blocks.append(blocks[index])

    def _known(self, filling: list[Sequence]) -> bool:
        """Whether one of them fills a block that another has, or will have: then its own becomes blank."""
        names: set[Name] = set()
        for sequence in filling:
            name = sequence.name(sequence.registered)
            assert sequence.tip is not None
            if name in names or name in sequence.tip.behind:
                return True
            names.add(name)
        return False

    def _take_and_register(self, leaving: list[Sequence], taking: list[int], steps: int) -> None:
        """Step by step, those who take first, then those who register: what one step registers may be blank for the
        next."""
        size, count = self.block_size, len(leaving)
        for place, sequence in enumerate(leaving):
            before = sequence.computed - steps
            for block in range(sequence.registered + 1, sequence.computed // size + 1):
                taking.append(((block * size - before - 1) * 2 + 1) * count + place)
        for turn in sorted(taking):
            sequence = leaving[turn % count]
            if turn // count % 2:
                self._register(sequence, sequence.registered + 1)
            else:
                self.pool.add(1, sequence.blocks)

    def _register(self, sequence: Sequence, full: int) -> None:
        tip, known = sequence.tip, sequence.registered
        assert tip is not None
        sequence.tip = self.pool.register(tip, sequence.hashes(full), sequence.blocks, known, full)
        sequence.registered = full
