"""What is known of the engines' prefix caches: as they are, or as their KV events told it some time ago.

Of many engines, too, it is what their events told, if only a moment ago: each is not asked for every prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING, Final

from coxswain_scheduler.prefixes import Holders, PrefixIndex, Seating, names
from coxswain_scheduler.simulator.request import SimRequest

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine
    from coxswain_scheduler.simulator.simulation import Simulation

_FEW: Final = 32
"""Engines up to which each is asked, if what it has to tell takes no time."""
_KEY_BITS: Final = 24
_LAST_KEY: Final = (1 << _KEY_BITS) - 1
"""An engine's number and what it holds make one number, which sorts faster than a pair."""


class Caches:
    """Answers what a gateway would."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        setup = simulation.setup
        self._lag = setup.kv_event_lag_seconds or 0.0
        self.by_events = setup.kv_event_lag_seconds is not None or len(setup.engines) > _FEW
        """Whether engines tell what they store and give up."""
        self._index = PrefixIndex()

    def cached(self, request: SimRequest, engine: SimEngine) -> int:
        """Prompt tokens of `request` that `engine` is known to hold; the last token is always computed."""
        if not request.hashes:
            return 0
        if self.by_events:
            return self._told(request).get(engine.id, 0)
        return _tokens(request, engine.batcher.pool.depth(request.hashes), engine.block_size)

    def holders(self, request: SimRequest) -> Mapping[int, int]:
        """The same for every engine that a policy sees and that holds any, those that hold most first."""
        if not request.hashes:
            return {}
        if self.by_events:
            return self._told(request)
        hashes, most, held = request.hashes, request.prompt_tokens - 1, []
        for key, engine in self._simulation.fleet.visible.items():
            if blocks := engine.batcher.pool.depth(hashes):
                size = engine.block_size
                held.append(((min(blocks, most // size) * size) << _KEY_BITS) + _LAST_KEY - key)
        held.sort(reverse=True)
        return {_LAST_KEY - (both & _LAST_KEY): both >> _KEY_BITS for both in held}

    def hear(self, engine: SimEngine) -> None:
        """A step of `engine` has ended: what it tells of its cache is on its way."""
        if not self.by_events:
            return
        stored, removed = engine.batcher.pool.drain_events()
        calendar = self._simulation.calendar
        if not self._lag:
            self._learn(engine, stored, removed)
        elif stored or removed:
            calendar.at(calendar.now + self._lag, lambda _: self._learn(engine, stored, removed))

    def forget(self, engine: SimEngine) -> None:
        """The engine is no more."""
        self._index.drop(engine.id)

    def _told(self, request: SimRequest) -> Holders:
        """Block names are of one size: that of the engines."""
        fleet = self._simulation.fleet
        seating = None
        if len(fleet.visible) < len(fleet.living):
            seating = Seating()
            for key in fleet.visible:
                seating.add(key, key)
        size = self._simulation.setup.engines[0].block_size
        levels = self._index.levels(names(request.hashes), tokens=request.prompt_tokens, block_size=size)
        return Holders(levels, seating)

    def _learn(self, engine: SimEngine, stored: Items[int], removed: Items[int]) -> None:
        """Names below zero are of blocks that nobody else can ask for."""
        if not engine.gone:
            self._index.stored(engine.id, [name for name in stored if name >= 0])
            self._index.removed(engine.id, [name for name in removed if name >= 0])


def _tokens(request: SimRequest, blocks: int, size: int) -> int:
    return min(blocks, (request.prompt_tokens - 1) // size) * size
