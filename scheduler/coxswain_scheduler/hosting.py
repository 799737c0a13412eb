"""Hosts: the engines on which high priorities decode, and which others leave to them while there is room elsewhere.

A decode step takes the longer the more KV it reads, so high priorities are fast where little else is. But an engine
that others keep clear of is lost to them, and where KV is short, they wait for it: so the high ones are gathered, on as
many engines as are worth it now. If `n` requests hold `c` tokens on `k` engines, their steps together take longer by
`n · c / k`. With high ones counted several times, the sum over them and the others is least where the engines are
split as the square roots of `n · c`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Final

from coxswain_scheduler.interface import Engine, Request

_WEIGHT: Final = 5.0
"""Others whose delay counts as much as that of one of a high priority."""
_FULL: Final = 0.85
"""Share of hosts' KV that high priorities fill before there is another host."""
_OTHERS_FULL: Final = 0.7
"""Share of the other engines' KV that others fill before there is a host less."""
_STEADY: Final = 0.7
"""By how many engines what would be best may differ from what is."""


class Hosts:
    """Who decodes with a high priority, and where the hosts are. There are none while there are no such requests."""

    def __init__(self) -> None:
        self.engines: set[int] = set()
        """The hosts."""
        self._high: dict[int, dict[int, Request]] = {}
        """By engine, and by id: requests of a priority above the usual."""

    def drop(self, engine: int) -> None:
        """It is gone."""
        self._high.pop(engine, None)
        self.engines.discard(engine)

    def placed(self, request: Request, engine: int) -> None:
        """The request decodes there from now on; the first high one makes its engine a host."""
        if request.priority > 0:
            self._high.setdefault(engine, {})[request.id] = request
            if not self.engines:
                self.engines.add(engine)

    def left(self, request: Request, engine: int) -> None:
        """It decodes there no more."""
        if request.priority > 0:
            self._high.get(engine, {}).pop(request.id, None)

    def high(self, engine: int) -> int:
        """High priorities that decode there."""
        return len(self._high.get(engine, ()))

    def choose(self, engines: Sequence[Engine], waiting: Iterable[int] = ()) -> None:
        """As many hosts as are worth it now: those that are hosts stay before others become some, and where there are
        most high priorities before where there are few.

        `waiting`: tokens of each of the others that wait, which are asked for only where there is a choice.
        """
        if not engines or not any(self._high.values()):
            self.engines.clear()
            return
        wanted, known = self._wanted(engines, list(waiting)), {engine.id for engine in engines} & self.engines
        count = len(known) if known and abs(wanted - len(known)) < _STEADY else round(wanted)
        order = sorted(engines, key=lambda one: (one.id not in known, -self.high(one.id), one.context))
        self.engines.clear()
        self.engines.update(engine.id for engine in order[:count])

    def _wanted(self, engines: Sequence[Engine], waiting: Sequence[int]) -> float:
        """How many hosts would be best."""
        high = [_tokens(request) for requests in self._high.values() for request in requests.values()]
        held, count = sum(high), sum(engine.decoding for engine in engines) - len(high)
        others = max(0, sum(engine.context for engine in engines) - held) + sum(waiting)
        mine, theirs = sqrt(_WEIGHT * len(high) * held), sqrt((max(0, count) + len(waiting)) * others)
        size = sum(engine.total_blocks * engine.block_size for engine in engines) / len(engines)
        best = len(engines) * mine / (mine + theirs)
        return max(1.0, held / (_FULL * size), min(best, len(engines) - others / (_OTHERS_FULL * size)))


def _tokens(request: Request) -> int:
    return request.prompt_tokens + request.emitted
