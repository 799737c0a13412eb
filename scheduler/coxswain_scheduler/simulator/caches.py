"""What is known of the engines' prefix caches: as they are, or as their KV events told it some time ago."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import TYPE_CHECKING

from coxswain_scheduler.prefixes import PrefixIndex
from coxswain_scheduler.simulator.request import SimRequest

if TYPE_CHECKING:
    from coxswain_scheduler.simulator.engine import SimEngine
    from coxswain_scheduler.simulator.simulation import Simulation


class Caches:
    """Answers what a gateway would."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._lag = simulation.setup.kv_event_lag_seconds
        self._index = PrefixIndex()

    def cached(self, request: SimRequest, engine: SimEngine) -> int:
        """Prompt tokens of `request` that `engine` is known to hold; the last token is always computed."""
        if not request.hashes:
            return 0
        if self._lag is None:
            blocks = engine.batcher.pool.match(request.hashes).count
        else:
            blocks = self._index.hits(request.hashes).get(engine.id, 0)
        return _tokens(request, blocks, engine)

    def holders(self, request: SimRequest) -> dict[int, int]:
        """The same for every engine that a policy sees and that holds any."""
        engines, hashes = self._simulation.fleet.visible, request.hashes
        if not hashes:
            return {}
        if self._lag is None:
            found = {key: engine.batcher.pool.match(hashes).count for key, engine in engines.items()}
        else:
            found = self._index.hits(hashes)
        tokens = {key: _tokens(request, found.get(key, 0), engine) for key, engine in engines.items()}
        return {key: count for key, count in tokens.items() if count}

    def hear(self, engine: SimEngine) -> None:
        """A step of `engine` has ended: what it tells of its cache is on its way."""
        if self._lag is None:
            return
        stored, removed = engine.batcher.pool.drain_events()
        calendar = self._simulation.calendar
        if stored or removed:
            calendar.at(calendar.now + self._lag, lambda _: self._learn(engine, stored, removed))

    def forget(self, engine: SimEngine) -> None:
        """The engine is no more."""
        self._index.drop(engine.id)

    def _learn(self, engine: SimEngine, stored: Items[int], removed: Items[int]) -> None:
        """Names below zero are of blocks that nobody else can ask for."""
        if not engine.gone:
            self._index.stored(engine.id, [name for name in stored if name >= 0])
            self._index.removed(engine.id, [name for name in removed if name >= 0])


def _tokens(request: SimRequest, blocks: int, engine: SimEngine) -> int:
    size = engine.block_size
    return min(blocks, (request.prompt_tokens - 1) // size) * size
