"""The engines that are connected: by member, with what each holds of prompts and what a step of its kind costs."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import count

from coxswain_gateway.engines import LiveEngine, LiveRequest, Now
from coxswain_gateway.members import Member
from coxswain_scheduler.batching import block_hashes
from coxswain_scheduler.costs import StepCost
from coxswain_scheduler.prefixes import Holders, PrefixIndex

Hashes = dict[int, Sequence[int]]
"""Of a prompt's blocks, by their size in tokens."""
Kind = tuple[str, str, str]
"""Engine, accelerator and model: what is learnt of the steps of one holds for all of a kind."""


class Roster:
    """Each engine has a seat: its bit in the masks of the prefix index, the lowest that is free."""

    def __init__(self, time: Now) -> None:
        self.prefixes = PrefixIndex()
        """By seat."""
        self._time = time
        self._of_member: dict[str, LiveEngine] = {}
        self._seats: dict[int, LiveEngine] = {}
        self._seat_of: dict[int, int] = {}
        """Of those that can be sent work, by engine; and the other way round."""
        self._engine_in: dict[int, int] = {}
        self._masks: dict[int, int] = {}
        """Seats of the engines with blocks of a size."""
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
        self._masks[engine.block_size] = self._masks.get(engine.block_size, 0) | 1 << seat
        return engine

    def open(self, engine: LiveEngine) -> None:
        """It can be sent work: it is among the `holders`."""
        self._seat_of[engine.id], self._engine_in[engine.seat] = engine.seat, engine.id

    def close(self, engine: LiveEngine) -> None:
        """It cannot any more."""
        del self._seat_of[engine.id], self._engine_in[engine.seat]

    def drop(self, member: Member) -> None:
        """A member's engine is gone, with what it held; nothing where it has none."""
        engine = self._of_member.pop(member.key, None)
        if engine is not None:
            del self._seats[engine.seat]
            self._masks[engine.block_size] ^= 1 << engine.seat
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

    def hashes(self, tokens: Sequence[int]) -> Hashes:
        """Of a prompt's blocks, by their size. In arrays, which the garbage collector does not look into."""
        sizes = [size for size in sorted(self._masks) if self._masks[size]]
        return {size: array("Q", block_hashes(tokens, block_size=size)) for size in sizes}

    def holders(self, request: LiveRequest) -> Holders:
        """What those that can be sent work hold of a request."""
        levels: list[tuple[int, int]] = []
        last, several = request.tokens - 1, len(self._masks) > 1  # the last token is always computed
        for size, hashes in request.by_size.items():
            most, own = last // size, self._masks[size]
            for depth, mask in self.prefixes.levels(hashes):
                levels.append((min(depth, most) * size, mask & own if several else mask))
        if several:
            levels.sort(reverse=True)
        return Holders(levels, seats=self._seat_of, engines=self._engine_in)

    def cost_errors(self) -> dict[Kind, float]:
        """Mean relative error of the predicted step, by kind of engine."""
        return {kind: cost.error for kind, cost in self._costs.items()}

    def _cost(self, member: Member) -> StepCost:
        info = member.info
        kind = (info.engine, info.accelerator, info.model)
        if kind not in self._costs:
            self._costs[kind] = StepCost(floor_seconds=info.step_floor_seconds)
        return self._costs[kind]
