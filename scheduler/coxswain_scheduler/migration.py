"""Which running request should go on elsewhere, and where: what is gained by the move against what it costs.

Engines are compared by how long their free KV blocks last (`freeness`). An engine that leaves sends away all it can;
one whose next prompt does not fit makes room for it, which also undoes fragmentation (the fleet has the blocks, no
engine has enough); one that is nearly full gives a request to the one with the longest time to go, before it must
preempt.

Gain and cost are seconds of delay, added up over the requests that suffer them. Both are predictions from what engines
report; output lengths are not known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Final, Literal

from coxswain_scheduler.freeness import BALANCE, LEAVING, PRIORITY, Sides, Worker

Reason = Literal["Leaving", "Priority", "Defragment", "Balance"]
_REASONS: Final[tuple[Reason, ...]] = ("Leaving", "Priority", "Defragment", "Balance")
"""By kind of giver."""

_USUAL_OUTPUT: Final = 128
"""Steps after which a running sequence is taken to end, when nothing better is known."""
_SLOWDOWN: Final = 0.01
"""Share by which decoding slows while KV is copied (Llumnix measured less)."""
_SHARED_BY: Final = 4
"""Destinations that an engine which leaves may use at a time."""


class Movable:
    """A running request past its prefill."""

    def __init__(self, request: Hashable, priority: int, tokens: int) -> None:
        """`priority`: higher is more urgent. `tokens`: KV that it holds."""
        self.request = request
        self.priority = priority
        self.tokens = tokens


_urgency = attrgetter("priority")


class Migration:
    """One request to move, and what speaks for it."""

    def __init__(
        self,
        *,
        request: Hashable,
        source: int,
        destination: int,
        reason: Reason,
        gain_seconds: float,
        cost_seconds: float,
    ) -> None:
        self.request = request
        self.source = source
        self.destination = destination
        self.reason: Reason = reason
        self.gain_seconds = gain_seconds
        self.cost_seconds = cost_seconds

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

    def pair(self, workers: list[Worker], movable: Callable[[int], list[Movable]]) -> list[Migration]:
        """Moves worth their cost between engines, by their places in the list, the most pressing first. `movable` is
        asked for sources only and answers by rising (priority, tokens): an order that holds while they run, for all
        grow by a token a step."""
        sides = Sides(workers, self.block_size, self.horizon)
        to = [_Destination(number, workers[number], self.block_size) for number in sides.takers(self.most)]
        moves: list[Migration] = []
        for source in self._sources(workers, sides, to) if to else ():
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

    def _sources(self, rows: list[Worker], sides: Sides, to: list[_Destination]) -> Iterator[_Source]:
        """Who could save anything by a move, twice as many as may move at most."""
        copying = self.block_size * self._slowing
        beside = min([one.running for one in to])
        step = min([one.step for one in to])
        left = 2 * self.most
        for kind, number in sides.givers():
            source = _Source(number, kind, rows[number], sides.lasts[number], self)
            copied = max(0.0, source.short - 1.0)  # blocks, at least, for the whole worth
            if source.worth > copied * copying * (source.running + beside) + step:
                yield source
                left -= 1
                if left == 0:
                    return

    def _move(self, source: _Source, to: _Destination, request: Movable) -> Migration | None:
        tokens = request.tokens
        blocks = -(-tokens // self.block_size)
        if (to.room - blocks) * to.block_seconds < source.keep:
            return None
        gain = tokens * to.token
        if source.kind != LEAVING:
            gain = source.worth * min(1.0, blocks / max(1.0, source.short))
        cost = tokens * self._slowing * (source.running + to.running) + to.step
        if gain <= cost:
            return None
        return Migration(
            request=request.request,
            source=source.number,
            destination=to.number,
            reason=_REASONS[source.kind],
            gain_seconds=gain,
            cost_seconds=cost,
        )


class _Destination:
    def __init__(self, number: int, row: Worker, block_size: int) -> None:
        self.number = number
        self.room = row.free_blocks - row.wanted_blocks
        """Blocks."""
        self.block_seconds = row.step_seconds * block_size / (row.running + 1.0)
        """For which a block lasts, with one sequence more."""
        self.running = row.running
        self.step = row.step_seconds
        self.token = row.token_seconds


class _Source:
    def __init__(self, number: int, kind: int, row: Worker, last: float, pairing: Pairing) -> None:
        horizon = pairing.horizon
        held = max(1.0, row.total_blocks - row.free_blocks)
        self.number = number
        self.kind = kind
        self.short = row.wanted_blocks - row.free_blocks
        """Blocks that its next prompt lacks."""
        self.running = row.running
        self.below = row.wanted_priority if kind == PRIORITY else inf
        """Only what is less urgent than that makes room."""
        self.keep = max(last, horizon) if kind == BALANCE else horizon
        """Seconds for which the blocks of a destination must last afterwards."""
        self.worth = inf
        """Seconds of delay that it could save at most."""
        if kind == BALANCE:
            self.worth = (1.0 - max(0.0, last) / horizon) * held * pairing.block_size / row.running * row.token_seconds
        elif kind != LEAVING:
            self.worth = self.short * _USUAL_OUTPUT * row.step_seconds / held * max(1.0, row.waiting)

    def choose(self, movable: list[Movable], block_size: int) -> list[Movable]:
        """What to send away: of what leaves, what is dearest to compute anew; for room, the least that is enough, of
        the least urgent; for balance, the shortest."""
        if self.kind == LEAVING:
            return movable[: -_SHARED_BY - 1 : -1]
        if self.kind == BALANCE:
            return movable[:1]
        return self._enough(movable, self.short * block_size)

    def _enough(self, movable: list[Movable], tokens: float) -> list[Movable]:
        """The first of so many tokens, or the largest of the last priority that makes room."""
        start, end = 0, len(movable)
        found: list[Movable] = []
        while start < end and movable[start].priority < self.below:
            priority = movable[start].priority
            alike = movable[end - 1].priority == priority
            stop = end if alike else bisect_right(movable, priority, lo=start, key=_urgency)
            found = [movable[stop - 1]]
            if found[0].tokens >= tokens:
                return [movable[_first(movable, tokens, start, stop - 1)]]
            start = stop
        return found


def _first(movable: list[Movable], tokens: float, start: int, end: int) -> int:
    """Of equal priority, the first of so many tokens; the one at `end` has them. (`bisect` would call for each key.)"""
    while start < end:
        middle = (start + end) // 2
        if movable[middle].tokens >= tokens:
            end = middle
        else:
            start = middle + 1
    return end
