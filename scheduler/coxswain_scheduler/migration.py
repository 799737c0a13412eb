"""Which running request should go on elsewhere, and where: what is gained by the move against what it costs.

Engines are compared by how long their free KV blocks last: a sequence takes a token a step, so an engine is full after
`free · block size / running` steps, Llumnix's freeness (OSDI'24), here times its step, so that unequal GPUs compare. An
engine that leaves sends away all it can; one whose next prompt does not fit makes room for it, which also undoes
fragmentation (the fleet has the blocks, no engine has enough); one that is nearly full gives a request to the one with
the longest time to go, before it must preempt.

Gain and cost are seconds of delay, added up over the requests that suffer them. Both are predictions from what engines
report; output lengths are not known.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from operator import itemgetter
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Reason = Literal["Leaving", "Priority", "Defragment", "Balance"]
_REASONS: tuple[Reason, ...] = ("Leaving", "Priority", "Defragment", "Balance")
"""The more pressing first."""
Column = NDArray[np.float64]
Table = NDArray[np.float64]

_USUAL_OUTPUT: Final = 128
"""Steps after which a running sequence is taken to end, when nothing better is known."""
_SLOWDOWN: Final = 0.01
"""Share by which decoding slows while KV is copied (Llumnix measured less)."""
_SHARED_BY: Final = 4
"""Destinations that an engine which leaves may use at a time."""


class Movable(NamedTuple):
    """A running request past its prefill."""

    request: Hashable
    priority: int
    """Higher is more urgent."""
    tokens: int
    """KV that it holds."""


class Worker(NamedTuple):
    """One engine as it last reported."""

    free_blocks: int
    total_blocks: int
    running: int
    waiting: int
    wanted_blocks: int
    """What the first in its queue needs; 0 when nobody waits."""
    wanted_priority: int
    """That one's priority."""
    step_seconds: float
    token_seconds: float
    """To compute a prompt token."""
    leaving: bool = False
    busy: bool = False
    """It takes part in a migration already."""


_PRIORITY, _TOKENS = itemgetter(1), itemgetter(2)
"""Of a `Movable`."""
_FREE: Final = 0
_RUNNING: Final = 2
_WANTED: Final = 4
_STEP: Final = 6
_LEAVING: Final = 8
_BUSY: Final = 9
"""Of a `Worker`."""


class Workers:
    """Engines by number, as columns. A coordinator keeps one and writes into it what is reported."""

    def __init__(self, rows: Iterable[Worker]) -> None:
        table = np.array(list(rows), dtype=np.float64).reshape(-1, len(Worker._fields))
        self.table: Table = np.ascontiguousarray(table.T)
        """A row for each field, a column for each engine."""

    def __len__(self) -> int:
        return int(self.table.shape[1])

    def __setitem__(self, number: int, row: Worker) -> None:
        self.table[:, number] = row


class Migration(NamedTuple):
    """One request to move, and what speaks for it."""

    request: Hashable
    source: int
    destination: int
    reason: Reason
    gain_seconds: float
    cost_seconds: float

    def explain(self) -> str:
        """One line for logs and people."""
        return (
            f"{self.request} from {self.source} to {self.destination}: {_WHY[self.reason]};"
            f" saves {self.gain_seconds * 1e3:.1f} ms of delay for {self.cost_seconds * 1e3:.1f} ms"
        )


_WHY: dict[Reason, str] = {
    "Leaving": "its engine leaves, and elsewhere it would be computed anew",
    "Priority": "makes room for a more urgent prompt",
    "Defragment": "makes room for a prompt that fits in no engine's free blocks",
    "Balance": "its engine is soon full, and would preempt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """How to pair. Times in seconds."""

    block_size: int
    kv_bytes_per_token: int
    link_bytes_per_second: float = inf
    horizon: float = 2.0
    """An engine that lasts less is a source, one that lasts longer may be a destination."""
    most: int = 64
    """Migrations at a time; an engine takes part in one, but one that leaves in several."""

    def pair(self, workers: Workers, movable: Callable[[int], Sequence[Movable]]) -> list[Migration]:
        """Moves worth their cost, the most pressing first. `movable` is asked for sources only, by number, and answers
        by rising (priority, tokens): an order that holds while they run, for all grow by a token a step."""
        lasts = self._lasts(workers.table)
        to = self._destinations(workers.table, lasts)
        moves: list[Migration] = []
        for source in self._sources(workers.table, lasts, to) if to else ():
            for request in source.choose(movable(source.number), self.block_size):
                move = self._move(source, to[len(moves)], request)
                if move is not None:
                    moves.append(move)
                    if len(moves) == len(to):
                        return moves
        return moves

    @property
    def _slowing(self) -> float:
        """Seconds that copying a token costs each sequence beside it."""
        return self.kv_bytes_per_token / self.link_bytes_per_second * _SLOWDOWN

    def _lasts(self, table: Table) -> Column:
        """Seconds until an engine's free blocks are used up; below zero when its next prompt does not fit."""
        slack = table[_FREE] - table[_WANTED]
        lasts: Column = slack * table[_STEP] * self.block_size / np.maximum(table[_RUNNING], 1.0)
        return lasts

    def _destinations(self, table: Table, lasts: Column) -> list[_Destination]:
        """Those with room, the one that lasts longest first."""
        some = np.flatnonzero((lasts > self.horizon) & (table[_LEAVING] + table[_BUSY] == 0.0))
        some = some[np.argsort(-lasts[some])[: self.most]]
        return [
            _Destination(number, free - wanted, step * self.block_size / (running + 1.0), running, step, token)
            for number, (free, _, running, _, wanted, _, step, token, _, _) in _rows(table, some)
        ]

    def _sources(self, table: Table, lasts: Column, to: Sequence[_Destination]) -> Iterator[_Source]:
        """Who could save anything by a move: who leaves, who keeps the urgent waiting, who keeps others waiting, the
        rest; the fullest first."""
        pressed = (lasts < self.horizon) | (table[_LEAVING] > 0.0)
        some = np.flatnonzero(pressed & (table[_BUSY] == 0.0) & (table[_RUNNING] > 0.0))
        free, total, running, waiting, wanted, urgency, step, token, leaving, _ = table[:, some]
        last, short, held = lasts[some], wanted - free, np.maximum(1.0, total - free)
        full = (1.0 - np.maximum(0.0, last) / self.horizon) * held * self.block_size / running * token
        late = short * _USUAL_OUTPUT * step / held * np.maximum(1.0, waiting)
        kind = np.where(leaving > 0.0, 0, np.where(short <= 0.0, 3, np.where(urgency > 0.0, 1, 2)))
        worth = np.where(kind == 0, inf, np.where(kind == 3, full, late))
        copied = np.maximum(0.0, short - 1.0)  # blocks, at least, for the whole worth
        beside = running + min([one.running for one in to])
        gains = worth > copied * (self.block_size * self._slowing) * beside + min([one.step for one in to])
        best = np.flatnonzero(gains)
        best = best[np.lexsort((last[best], kind[best]))[: 2 * self.most]]
        columns = [column[best].tolist() for column in (some, kind, worth, short, running, urgency, last)]
        for number, rank, saves, lacks, count, urgent, lasting in zip(*columns, strict=True):
            reason = _REASONS[rank]
            below = urgent if reason == "Priority" else inf
            keep = max(lasting, self.horizon) if reason == "Balance" else self.horizon
            yield _Source(number, reason, saves, lacks, count, below, keep)

    def _move(self, source: _Source, to: _Destination, request: Movable) -> Migration | None:
        tokens = request.tokens
        blocks = -(-tokens // self.block_size)
        if (to.room - blocks) * to.block_seconds < source.keep:
            return None
        gain = tokens * to.token
        if source.reason != "Leaving":
            gain = source.worth * min(1.0, blocks / max(1.0, source.short))
        cost = tokens * self._slowing * (source.running + to.running) + to.step
        if gain <= cost:
            return None
        return Migration(request.request, source.number, to.number, source.reason, gain, cost)


class _Destination(NamedTuple):
    number: int
    room: float
    """Blocks."""
    block_seconds: float
    """For which a block lasts, with one sequence more."""
    running: float
    step: float
    token: float


class _Source(NamedTuple):
    number: int
    reason: Reason
    worth: float
    """Seconds of delay that it could save at most."""
    short: float
    """Blocks that its next prompt lacks."""
    running: float
    below: float
    """Only what is less urgent than that makes room."""
    keep: float
    """Seconds for which the blocks of a destination must last afterwards."""

    def choose(self, movable: Sequence[Movable], block_size: int) -> Sequence[Movable]:
        """What to send away: of what leaves, what is dearest to compute anew; for room, the least that is enough, of
        the least urgent; for balance, the shortest."""
        if self.reason == "Leaving":
            return movable[: -_SHARED_BY - 1 : -1]
        if self.reason == "Balance":
            return movable[:1]
        return self._enough(movable, self.short * block_size)

    def _enough(self, movable: Sequence[Movable], tokens: float) -> Sequence[Movable]:
        """The first of so many tokens, or the largest of the last priority that makes room."""
        start, end, found = 0, len(movable), movable[:0]
        while start < end and (priority := movable[start].priority) < self.below:
            alike = movable[end - 1].priority == priority
            stop = end if alike else bisect_right(movable, priority, lo=start, key=_PRIORITY)
            found = movable[stop - 1 : stop]
            if found[0].tokens >= tokens:
                place = bisect_left(movable, tokens, lo=start, hi=stop, key=_TOKENS)
                return movable[place : place + 1]
            start = stop
        return found


def _rows(table: Table, numbers: NDArray[np.intp]) -> Iterator[tuple[int, list[float]]]:
    """These engines, as plain numbers."""
    return zip(numbers.tolist(), table[:, numbers].T.tolist(), strict=True)
