"""The least costly engine for a prompt, out of a thousand, without a close look at each.

What an engine is predicted to need until the first token has the same form everywhere: its queue, the step that yields
the token, the arithmetic of the uncached part of the prompt, and, as that part takes several steps, what each of these
takes for the sequences that decode beside it. Only the last two depend on the prompt, and on the engine only through
its kind (hardware, model) and through one number, its pace. So engines that hold equally much of the prompt are
compared by one line each: a few are scored one by one, a crowd as two arrays. Holders come by falling depth, and the
search ends where even an engine with the shortest queue of all could not win any more with so little cached.

The answer is the one that a scan of everybody gives. Whoever fills in queue, step and pace decides what they mean: the
gateway takes them from reports, a policy in the simulator from the cost models.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable
from math import inf
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from coxswain_scheduler.decision import Decision, Scored
from coxswain_scheduler.prefixes import seats

Name = TypeVar("Name", bound=Hashable)

_FEW = 16
"""As many are scored faster one by one than as arrays."""
_cost = itemgetter(0)


class PrefillCost(Protocol):
    """What computing a prompt takes on one kind of engine. Never less for fewer cached tokens."""

    def prefill_work(self, prompt: int, cached: int) -> tuple[float, float]:
        """(seconds, steps) to compute all but the first `cached` of `prompt` tokens with nothing beside them."""


class _Kind:
    """Engines with one prefill cost, as arrays by number: infinite where there is no such engine."""

    def __init__(self, cost: PrefillCost, size: int) -> None:
        self.cost = cost
        self.mask = 0
        self.bases = np.full(size, inf)
        self.paces = np.zeros(size)

    def grow(self, size: int) -> None:
        more = size - len(self.bases)
        self.bases = np.concatenate([self.bases, np.full(more, inf)])
        self.paces = np.concatenate([self.paces, np.zeros(more)])


class _Seat(Generic[Name]):
    """One engine."""

    __slots__ = ("base", "kind", "name", "number", "pace", "queue", "step")

    def __init__(self, name: Name, number: int, kind: _Kind) -> None:
        self.name = name
        self.number = number
        self.kind = kind
        self.queue = self.step = self.pace = self.base = 0.0


class Shortlist(Generic[Name]):
    """Engines by name, numbered from 0 so that sets of them are the bits of an integer. Deterministic for a `rng`.

    `thrift` is what a second of prefill costs beside its being waited for: the others on that engine wait for it, too.
    With some of it a burst of one prefix stays together, with 0 the choice is the earliest first token alone.
    """

    def __init__(self, *, rng: random.Random | None = None, thrift: float = 0.0) -> None:
        self._rng = rng or random.Random()
        self._weight = 1.0 + thrift
        self.rule = f"least of first token + {thrift:g} of its prefill" if thrift else "earliest first token"
        self._seats: dict[Name, _Seat[Name]] = {}
        self._by_number: list[_Seat[Name] | None] = []
        self._free: list[int] = []
        self._kinds: dict[PrefillCost, _Kind] = {}
        self._size = 64
        self._scratch = np.empty(self._size)
        self._everyone = 0

    def __contains__(self, name: Name) -> bool:
        return name in self._seats

    def __len__(self) -> int:
        return len(self._seats)

    def add(self, name: Name, cost: PrefillCost) -> int:
        """An engine, idle until `update` says otherwise; its number. The same `cost` object makes engines a kind."""
        self.drop(name)
        number = self._free.pop() if self._free else self._next_number()
        kind = self._kinds.get(cost)
        if kind is None:
            kind = self._kinds[cost] = _Kind(cost, self._size)
        seat = self._seats[name] = self._by_number[number] = _Seat(name, number, kind)
        kind.mask |= 1 << number
        kind.bases[number] = seat.base
        self._everyone |= 1 << number
        return number

    def drop(self, name: Name) -> int | None:
        """Forget an engine; the number it had, which another may get."""
        seat = self._seats.pop(name, None)
        if seat is None:
            return None
        number, kind = seat.number, seat.kind
        kind.mask ^= 1 << number
        kind.bases[number], kind.paces[number] = inf, 0.0
        if not kind.mask:
            del self._kinds[kind.cost]
        self._everyone ^= 1 << number
        self._by_number[number] = None
        self._free.append(number)
        return number

    def update(self, name: Name, *, queue: float, step: float, pace: float, toll: float = 0.0) -> None:
        """What a prompt meets there, in seconds: what is before it, the step that yields its token, what each step of
        its prefill takes without it, and what is added to the cost without being waited for. KeyError if unknown."""
        seat = self._seats[name]
        seat.queue, seat.step, seat.pace = queue, step, pace
        seat.base = base = queue + step + toll
        seat.kind.bases[seat.number] = base
        seat.kind.paces[seat.number] = pace

    def number(self, name: Name) -> int | None:
        """The bit that stands for an engine."""
        seat = self._seats.get(name)
        return None if seat is None else seat.number

    def mask(self, names: Iterable[Name]) -> int:
        """The bits of those among `names` that are known."""
        known = self._seats
        flags = bytearray(len(self._by_number) + 7 >> 3)
        for name in names:
            if (seat := known.get(name)) is not None:
                flags[seat.number >> 3] |= 1 << (seat.number & 7)
        return int.from_bytes(flags, "little")

    def choose(
        self,
        prompt: int,
        levels: Iterable[tuple[int, int]] = (),
        *,
        underway: Iterable[tuple[int, int]] = (),
        among: int | None = None,
    ) -> Decision[Name] | None:
        """The least costly engine for a prompt of so many tokens, equals by lot; None if there is none.

        `levels`: (cached tokens, mask of the engines that hold so many), by falling tokens, each engine at most once.
        `underway`: the same for prompts on their way there, in any order. `among`: mask of those to choose from.
        """
        everyone = left = self._everyone if among is None else self._everyone & among
        if not everyone:
            return None
        scored: list[Scored[Name]] = []
        for cached, mask in underway:
            self._score(scored, mask & everyone, prompt, cached)
        bound: Callable[[int], float] | None = None
        for cached, mask in levels:
            if scored and len(self._seats) > _FEW:
                bound = bound or self._bound(prompt)
                if bound(cached) > min(map(_cost, scored)):
                    break
            self._score(scored, mask & left, prompt, cached)
            left &= ~mask
        self._score(scored, left, prompt, 0)
        return Decision(self._best(scored), scored, prompt=prompt, candidates=everyone.bit_count(), rule=self.rule)

    def _best(self, scored: list[Scored[Name]]) -> Scored[Name]:
        least = min(map(_cost, scored))
        equals = [one for one in scored if one[0] == least]
        return equals[0] if len(equals) == 1 else equals[self._rng.randrange(len(equals))]

    def _bound(self, prompt: int) -> Callable[[int], float]:
        """The least that any engine could cost with so many tokens cached."""
        floors = [(float(kind.bases.min()), kind.cost) for kind in self._kinds.values()]
        weight = self._weight
        return lambda cached: min(base + weight * cost.prefill_work(prompt, cached)[0] for base, cost in floors)

    def _score(self, scored: list[Scored[Name]], mask: int, prompt: int, cached: int) -> None:
        """Add those of `mask`, or the best of a crowd."""
        if not mask:
            return
        cached = max(0, min(cached, prompt - 1))
        for kind in self._kinds.values():
            own = mask & kind.mask
            if own:
                seconds, steps = kind.cost.prefill_work(prompt, cached)
                numbers = seats(own) if own.bit_count() <= _FEW else self._least(kind, own, steps)
                for number in numbers:
                    seat = self._by_number[number]
                    assert seat is not None
                    work = seconds + steps * seat.pace
                    scored.append((seat.base + self._weight * work, seat.name, cached, seat.queue, work, seat.step))

    def _least(self, kind: _Kind, mask: int, steps: float) -> tuple[int, int]:
        """Two of the least costly of many of one kind that hold equally much, the first by lot among equals."""
        costs = self._scratch
        np.multiply(kind.paces, self._weight * steps, out=costs)
        costs += kind.bases
        if mask != kind.mask:
            np.putmask(costs, self._absent(mask), inf)
        first = int(costs.argmin())
        equals: NDArray[np.intp] = np.flatnonzero(costs == costs[first])
        if len(equals) > 1:
            first = int(equals[self._rng.randrange(len(equals))])
        costs[first] = inf
        return first, int(costs.argmin())

    def _absent(self, mask: int) -> NDArray[np.bool_]:
        """Which numbers are not in the mask."""
        missing = (mask ^ ((1 << self._size) - 1)).to_bytes(self._size >> 3, "little")
        return np.unpackbits(np.frombuffer(missing, np.uint8), bitorder="little").view(np.bool_)

    def _next_number(self) -> int:
        self._by_number.append(None)
        number = len(self._by_number) - 1
        if number >= self._size:
            self._size *= 2
            self._scratch = np.empty(self._size)
            for kind in self._kinds.values():
                kind.grow(self._size)
        return number
