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

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, NamedTuple, Self

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
    tokens: int
    """KV that it holds."""
    priority: int = 0
    """Higher is more urgent."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
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
        """Moves worth their cost, the most pressing first. `movable` is asked for sources only, by number."""
        lasts = self._lasts(workers)
        sources = _sources(workers, lasts, self.horizon)[: 2 * self.most]
        destinations = _destinations(workers, lasts, self.horizon)[: self.most]
        free = [_Side.of(workers, number, lasts) for number in destinations]
        moves: list[Migration] = []
        for number in sources:
            if not free or len(moves) >= self.most:
                break
            source = _Side.of(workers, number, lasts)
            for request in source.choose(movable(number), self.block_size):
                if not free:
                    break
                move = self._move(source, free[0], request)
                if move is not None:
                    moves.append(move)
                    del free[0]
        return moves

    def _lasts(self, workers: Workers) -> NDArray[np.float64]:
        """Seconds until an engine's free blocks are used up; below zero when its next prompt does not fit."""
        running = workers["running"]
        slack = workers["free_blocks"] - workers["wanted_blocks"]
        steps = slack * self.block_size / np.maximum(running, 1)
        return np.where((running == 0) & (slack >= 0), inf, steps * workers["step_seconds"])

    def _move(self, source: _Side, to: _Side, request: Movable) -> Migration | None:
        blocks = -(-request.tokens // self.block_size)
        left = to.lasting(to.free - to.wanted - blocks, to.running + 1, self.block_size)
        if left < self.horizon or (source.reason == "Balance" and left < source.lasts):
            return None
        gain = source.gain(request.tokens, blocks, left, self, to)
        copy = request.tokens * self.kv_bytes_per_token / self.link_bytes_per_second
        cost = copy * _SLOWDOWN * (source.running + to.running) + to.step
        if gain <= cost:
            return None
        return Migration(
            request=request.request,
            source=source.number,
            destination=to.number,
            reason=source.reason,
            gain_seconds=gain,
            cost_seconds=cost,
        )


@dataclass(slots=True)
class _Side:
    """A source or a destination, in plain numbers."""

    number: int
    lasts: float
    free: float
    held: float
    running: float
    waiting: float
    wanted: float
    priority: float
    step: float
    token: float
    reason: Reason

    @classmethod
    def of(cls, workers: Workers, number: int, lasts: NDArray[np.float64]) -> Self:
        def at(field: str) -> Any:
            return workers[field].item(number)

        free, wanted, priority = at("free_blocks"), at("wanted_blocks"), at("wanted_priority")
        reason: Reason = "Balance"
        if at("leaving"):
            reason = "Leaving"
        elif wanted > free:
            reason = "Priority" if priority > 0 else "Defragment"
        return cls(
            number, lasts.item(number), free, at("total_blocks") - free, at("running"), at("waiting"), wanted, priority,
            at("step_seconds"), at("token_seconds"), reason,
        )  # fmt: skip

    def choose(self, movable: Sequence[Movable], block_size: int) -> list[Movable]:
        """What to send away: of what leaves, what is dearest to compute anew; for room, the least that is enough, of
        the least urgent; for balance, the shortest."""
        if self.reason == "Leaving":
            return sorted(movable, key=lambda one: (-one.priority, -one.tokens))[:_SHARED_BY]
        if self.reason == "Balance":
            return [min(movable, key=lambda one: (one.priority, one.tokens))] if movable else []
        short = (self.wanted - self.free) * block_size
        calm = [one for one in movable if one.priority < self.priority or self.reason == "Defragment"]
        enough = [one for one in calm if one.tokens >= short]
        if enough:
            return [min(enough, key=lambda one: (one.priority, one.tokens))]
        return [max(calm, key=lambda one: (-one.priority, one.tokens))] if calm else []

    def gain(self, tokens: int, blocks: int, left: float, pairing: Pairing, to: _Side) -> float:
        """Seconds of delay that are saved when `blocks` go and the other side then lasts for `left` seconds."""
        if self.reason == "Leaving":
            return tokens * to.token
        if self.reason == "Balance":
            usual = self.held / self.running * pairing.block_size
            pressing = 1.0 - max(0.0, self.lasts) / pairing.horizon
            return pressing * usual * self.token
        short = self.wanted - self.free
        wait = short * _USUAL_OUTPUT * self.step / max(self.held, 1.0)
        return min(1.0, blocks / short) * wait * max(self.waiting, 1.0)

    def lasting(self, free: float, running: float, block_size: int) -> float:
        """Seconds until so many free blocks are used up by so many sequences; below zero when there are none."""
        return free * block_size / running * self.step


def _sources(workers: Workers, lasts: NDArray[np.float64], horizon: float) -> list[int]:
    """Numbers, the most pressing first."""
    short = workers["wanted_blocks"] > workers["free_blocks"]
    rank = np.where(lasts < horizon, 3, 4)
    rank[short] = 2
    rank[short & (workers["wanted_priority"] > 0)] = 1
    rank[workers["leaving"] > 0] = 0
    rank[(workers["busy"] > 0) | (workers["running"] == 0)] = 4
    order = np.lexsort((lasts, rank))
    return [int(number) for number in order[: int((rank < 4).sum())]]


def _destinations(workers: Workers, lasts: NDArray[np.float64], horizon: float) -> list[int]:
    """Numbers, the one that lasts longest first; among idle ones the one with most room."""
    able = np.flatnonzero((lasts > horizon) & (workers["leaving"] == 0) & (workers["busy"] == 0))
    order = np.lexsort((-workers["free_blocks"][able], -lasts[able]))
    return [int(number) for number in able[order]]
