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

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Reason = Literal["Leaving", "Priority", "Defragment", "Balance"]

_USUAL_OUTPUT = 128
"""Steps after which a running sequence is taken to end, when nothing better is known."""
_SLOWDOWN = 0.01
"""Share by which decoding slows while KV is copied (Llumnix measured less)."""
_SHARED_BY = 4
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


class Workers:
    """Engines by number, as columns. A coordinator keeps one and writes into it what is reported."""

    def __init__(self, rows: Iterable[Worker]) -> None:
        table = np.array(list(rows), dtype=np.float64).reshape(-1, len(Worker._fields))
        self._columns: dict[str, NDArray[np.float64]] = {
            field: np.ascontiguousarray(table[:, at]) for at, field in enumerate(Worker._fields)
        }

    def __len__(self) -> int:
        return len(self["running"])

    def __getitem__(self, field: str) -> NDArray[np.float64]:
        return self._columns[field]

    def __setitem__(self, number: int, row: Worker) -> None:
        for field, value in zip(Worker._fields, row, strict=True):
            self._columns[field][number] = value


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


_WHY = {
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
        lasts = self._lasts(workers)
        receivers = _destinations(workers, lasts, self.horizon)[: self.most]
        if not len(receivers):
            return []
        worth = self._worth(workers, lasts)
        worth[worth <= workers["step_seconds"][receivers].min()] = 0.0  # no move costs less than a step there
        givers = _sources(workers, lasts, worth)[: 2 * self.most]
        destinations, moves = iter(_sides(workers, lasts, worth, receivers)), []
        to: _Side | None = next(destinations)
        for source in _sides(workers, lasts, worth, givers):
            for request in source.choose(movable(source.number), self.block_size):
                if to is not None and (move := self._move(source, to, request)) is not None:
                    moves.append(move)
                    to = next(destinations, None)
            if to is None:
                break
        return moves

    def _lasts(self, workers: Workers) -> NDArray[np.float64]:
        """Seconds until an engine's free blocks are used up; below zero when its next prompt does not fit."""
        slack = workers["free_blocks"] - workers["wanted_blocks"]
        return slack * self.block_size / np.maximum(workers["running"], 1) * workers["step_seconds"]

    def _worth(self, workers: Workers, lasts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds of delay that an engine could save at most by giving something away."""
        held = workers["total_blocks"] - workers["free_blocks"]
        short = workers["wanted_blocks"] - workers["free_blocks"]
        wait = short * _USUAL_OUTPUT * workers["step_seconds"] / np.maximum(held, 1)
        pressing = 1.0 - np.clip(lasts, 0.0, self.horizon) / self.horizon
        anew = held * self.block_size / np.maximum(workers["running"], 1) * workers["token_seconds"]
        worth = np.where(short > 0, wait * np.maximum(workers["waiting"], 1), pressing * anew)
        worth[workers["leaving"] > 0] = inf
        return worth

    def _move(self, source: _Side, to: _Side, request: Movable) -> Migration | None:
        blocks = -(-request.tokens // self.block_size)
        left = (to.free - to.wanted - blocks) * self.block_size / (to.running + 1) * to.step
        if left < self.horizon or (left < source.lasts and source.reason == "Balance"):
            return None
        gain = source.gain(request.tokens, blocks, to)
        copy = request.tokens * self.kv_bytes_per_token / self.link_bytes_per_second
        cost = copy * _SLOWDOWN * (source.running + to.running) + to.step
        if gain <= cost:
            return None
        return Migration(request.request, source.number, to.number, source.reason, gain, cost)


class _Side(NamedTuple):
    """A source or a destination, in plain numbers: its own, how long it lasts, what it may save, and its row."""

    number: int
    lasts: float
    worth: float
    free: float
    total: float
    running: float
    waiting: float
    wanted: float
    priority: float
    step: float
    token: float
    leaving: float
    busy: float

    @property
    def reason(self) -> Reason:
        """Why it gives something away."""
        if self.leaving:
            return "Leaving"
        if self.wanted <= self.free:
            return "Balance"
        return "Priority" if self.priority > 0 else "Defragment"

    def choose(self, movable: Sequence[Movable], block_size: int) -> Iterable[Movable]:
        """What to send away: of what leaves, what is dearest to compute anew; for room, the least that is enough, of
        the least urgent; for balance, the shortest."""
        if self.leaving:
            return movable[: -_SHARED_BY - 1 : -1]
        if self.wanted <= self.free:
            return movable[:1]
        short, priority = (self.wanted - self.free) * block_size, self.priority if self.priority > 0 else inf
        last = next((one for one in reversed(movable) if one[1] < priority), None)
        if last is None:
            return ()
        return (next((one for one in movable if one[2] >= short), last) if last[2] >= short else last,)

    def gain(self, tokens: int, blocks: int, to: _Side) -> float:
        """Seconds of delay that are saved when this much goes."""
        if self.leaving:
            return tokens * to.token
        return self.worth * min(1.0, blocks / max(1.0, self.wanted - self.free))


def _sides(
    workers: Workers, lasts: NDArray[np.float64], worth: NDArray[np.float64], numbers: NDArray[np.intp]
) -> Iterator[_Side]:
    columns = (column[numbers].tolist() for column in (lasts, worth, *map(workers.__getitem__, Worker._fields)))
    return map(_Side, numbers.tolist(), *columns)


def _sources(workers: Workers, lasts: NDArray[np.float64], worth: NDArray[np.float64]) -> NDArray[np.intp]:
    """Numbers: who leaves, who keeps the urgent waiting, who keeps others waiting, the rest; the fullest first."""
    some = np.flatnonzero((worth > 0) & (workers["busy"] == 0) & (workers["running"] > 0))
    short = workers["wanted_blocks"][some] > workers["free_blocks"][some]
    rank = np.where(short, np.where(workers["wanted_priority"][some] > 0, 1, 2), 3)
    rank[workers["leaving"][some] > 0] = 0
    return some[np.lexsort((lasts[some], rank))]


def _destinations(workers: Workers, lasts: NDArray[np.float64], horizon: float) -> NDArray[np.intp]:
    """Numbers, the one that lasts longest first."""
    some = np.flatnonzero((lasts > horizon) & (workers["leaving"] == 0) & (workers["busy"] == 0))
    return some[np.argsort(-lasts[some])]
