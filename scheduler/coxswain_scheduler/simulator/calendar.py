"""Virtual time: what is foreseen, in order.

At one instant, first come the steps that end, then arrivals and whatever else is foreseen in the order in which it was,
then what recurs, then engines begin their next steps: what reaches an engine at the very end of a step is in the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine

_HAPPENS: Final = 1 << 60
"""The turn of what is no end of a step."""
QUIET_SECONDS: Final = 3600.0
"""Virtual time for which nothing but ticks may happen before the run is given up."""


class Calendar:
    """Everything that is going to happen."""

    def __init__(self, *, max_seconds: float = math.inf) -> None:
        self.now = 0.0
        self._max_seconds = max_seconds
        self._order = 0
        self._events: list[tuple[float, int, int, Callable[[Any], None], Any]] = []
        self._recurring: list[tuple[float, int, float, Callable[[], None]]] = []
        self._starting: list[SimEngine] = []
        self._heard = 0.0

    def at(self, when: float, call: Callable[[Any], None], argument: object = None) -> None:
        """Call once, in virtual time."""
        self.step_ends(when, call, argument, turn=_HAPPENS)

    def step_ends(self, when: float, call: Callable[[Any], None], argument: object, *, turn: int = 0) -> None:
        """Call at the end of a step, before everything else of that instant, the lowest turn first."""
        self._order += 1
        heappush(self._events, (when, turn, self._order, call, argument))

    def every(self, seconds: float, call: Callable[[], None], *, first: float) -> None:
        """Call again and again; this alone does not keep a run going."""
        self._order += 1
        heappush(self._recurring, (first, self._order, seconds, call))

    def start_soon(self, engine: SimEngine) -> None:
        """Have the engine start a step when everything of this instant has happened."""
        self._starting.append(engine)

    def proceed(self) -> bool:
        """Let the next thing happen. False when there is none, or it is too late for it."""
        once = self._events[0][0] if self._events else math.inf
        again = self._recurring[0][0] if self._recurring else math.inf
        when = once if once <= again else again
        if self._starting and when > self.now:
            self._start()
            return True
        if when == math.inf or when > self._max_seconds or (once == math.inf and again > self._heard + QUIET_SECONDS):
            return False
        self.now = when
        if once <= again:
            self._heard = when
            _, _, _, call, argument = heappop(self._events)
            call(argument)
        else:
            self._recur()
        return True

    def _recur(self) -> None:
        when, _, seconds, call = self._recurring[0]
        self._order += 1
        heapreplace(self._recurring, (when + seconds, self._order, seconds, call))
        call()

    def _start(self) -> None:
        starting, self._starting = self._starting, []
        for engine in starting:
            if not engine.busy and not engine.gone:
                engine.start()
