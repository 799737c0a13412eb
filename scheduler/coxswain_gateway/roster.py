"""The engines that are connected: by member, with what each holds of prompts and what a step of its kind costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from operator import attrgetter
from typing import TypeAlias

from librt.vecs import vec
from mypy_extensions import i64

from coxswain_gateway.engines import LiveEngine, LiveRequest, Now
from coxswain_gateway.members import Member
from coxswain_scheduler.batching import block_hashes
from coxswain_scheduler.costs import StepCost
from coxswain_scheduler.prefixes import Holders, Level, PrefixIndex, Seating, names

Names: TypeAlias = "dict[int, vec[i64]]"
"""Of a prompt's blocks, by their size in tokens (see `PrefixIndex`)."""
_TOKENS = attrgetter("tokens")
Kind = tuple[str, str, str]
"""Engine, accelerator and model: what is learnt of the steps of one holds for all of a kind."""


class Roster:
    """Each engine has a seat: its number in the prefix index, the lowest that is free."""

    def __init__(self, time: Now) -> None:
        self.prefixes = PrefixIndex()
        """By seat."""
        self._time = time
        self._of_member: dict[str, LiveEngine] = {}
        self._seats: dict[int, LiveEngine] = {}
        self._seating = Seating()
        """Of those that can be sent work."""
        self._sizes: Counter[int] = Counter()
        """Engines by the size of their blocks."""
        self._costs: dict[Kind, StepCost] = {}
        self._ids = count()

    def get(self, member: Member) -> LiveEngine | None:
        """The engine of a member."""
        return self._of_member.get(member.key)

    def add(self, member: Member) -> LiveEngine:
        """An engine more, which cannot be sent work yet."""
        seat = next(number for number in count() if number not in self._seats)
        engine = LiveEngine(next(self._ids), member, self._cost(member), seat=seat, time=self._time)
        self._of_member[member.key] = self._seats[seat] = engine
        self._sizes[engine.block_size] += 1
        return engine

    def open(self, engine: LiveEngine) -> None:
        """It can be sent work: it is among the `holders`."""
        self._seating.add(engine.id, engine.seat)

    def close(self, engine: LiveEngine) -> None:
        """It cannot any more."""
        self._seating.remove(engine.id)

    def drop(self, member: Member) -> None:
        """A member's engine is gone, with what it held; nothing where it has none."""
        engine = self._of_member.pop(member.key, None)
        if engine is not None:
            del self._seats[engine.seat]
            self._sizes[engine.block_size] -= 1
            self.prefixes.drop(engine.seat)

    def stored(self, member: Member, hashes: Iterable[int]) -> None:
        """The replica can now reuse these blocks, given in chain order."""
        if (engine := self.get(member)) is not None:
            self.prefixes.stored(engine.seat, tuple(hashes))

    def removed(self, member: Member, hashes: Iterable[int]) -> None:
        """The replica has given these blocks up."""
        if (engine := self.get(member)) is not None:
            self.prefixes.removed(engine.seat, tuple(hashes))

    def holds(self, member: Member, hashes: Iterable[int]) -> None:
        """The replica holds exactly these blocks."""
        if (engine := self.get(member)) is not None:
            self.prefixes.replace(engine.seat, tuple(hashes))

    def names(self, tokens: Sequence[int]) -> Names:
        """Of a prompt's blocks, by their size."""
        sizes = [size for size, engines in sorted(self._sizes.items()) if engines]
        return {size: names(block_hashes(tokens, block_size=size)) for size in sizes}

    def holders(self, request: LiveRequest) -> Holders:
        """What those that can be sent work hold of a request."""
        levels: list[Level] = []
        for size, blocks in request.names.items():
            levels += self.prefixes.levels(blocks, tokens=request.tokens, block_size=size)
        if len(request.names) > 1:
            levels.sort(key=_TOKENS, reverse=True)
        return Holders(levels, self._seating)

    def cost_errors(self) -> dict[Kind, float]:
        """Mean relative error of the predicted step, by kind of engine."""
        return {kind: cost.error for kind, cost in self._costs.items()}

    def _cost(self, member: Member) -> StepCost:
        info = member.info
        kind = (info.engine, info.accelerator, info.model)
        if kind not in self._costs:
            self._costs[kind] = StepCost(floor_seconds=info.step_floor_seconds)
        return self._costs[kind]
