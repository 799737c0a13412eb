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
from collections.abc import Hashable, Iterable
from math import inf
from operator import itemgetter
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from coxswain_scheduler.decision import Decision, Scored
from coxswain_scheduler.prefill_cost import PrefillCost

Name = TypeVar("Name", bound=Hashable)

_FEW = 16
"""As many are scored faster one by one than as arrays."""
_SURELY = 2
"""Levels looked at before it is asked whether the next could still win: the question costs as much as a level."""
_LOT = 1e-9
"""Seconds at most by which equals are made to differ, by lot."""
_TRIES = 8
"""Winners looked at one by one, before it is worked out for everybody whether he counts."""
_MASKS = 64
_HUGE = 1e300
"""Seconds that every engine undercuts."""
_cost = itemgetter(0)


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
        self._by_number: dict[int, _Seat[Name]] = {}
        self._free: list[int] = []
        self._used = 0
        self._kinds: dict[PrefillCost, _Kind] = {}
        self._size = 64
        self._scratch = np.empty(self._size)
        self._masks: dict[int, NDArray[np.bool_]] = {}
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
        self._seats[name] = self._by_number[number] = _Seat(name, number, kind)
        kind.mask |= 1 << number
        self._everyone |= 1 << number
        self.update(name, queue=0.0, step=0.0, pace=0.0)
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
        del self._by_number[number]
        self._free.append(number)
        return number

    def update(self, name: Name, *, queue: float, step: float, pace: float, toll: float = 0.0) -> None:
        """What a prompt meets there, in seconds: what is before it, the step that yields its token, what each step of
        its prefill takes without it, and what is added to the cost without being waited for. KeyError if unknown."""
        seat = self._seats[name]
        seat.queue, seat.step, seat.pace = queue, step, pace
        seat.base = base = queue + step + toll + _LOT * self._rng.random()
        seat.kind.bases[seat.number] = base
        seat.kind.paces[seat.number] = pace

    def number(self, name: Name) -> int | None:
        """The bit that stands for an engine."""
        seat = self._seats.get(name)
        return None if seat is None else seat.number

    def mask(self, names: Iterable[Name]) -> int:
        """The bits of those among `names` that are known."""
        known = self._seats
        flags = bytearray(self._size >> 3)
        for name in names:
            if (seat := known.get(name)) is not None:
                flags[seat.number >> 3] |= 1 << (seat.number & 7)
        return int.from_bytes(flags, "little")

    def choose(
        self,
        prompt: int,
        levels: Iterable[tuple[int, int]] = (),
        *,
        block_size: int = 1,
        underway: Iterable[tuple[int, int]] = (),
        among: int | None = None,
    ) -> Decision[Name] | None:
        """The least costly engine for a prompt of so many tokens, None if there is none.

        `levels`: (cached blocks, mask of the engines that hold so many), by falling depth, each engine at most once.
        `underway`: the same for prompts on their way there, in any order. `among`: mask of those to choose from.
        """
        everyone = self._everyone if among is None else self._everyone & among
        if not everyone:
            return None
        scored: list[Scored[Name]] = []
        last = max(0, prompt - 1)  # the last token is always computed, for its logits
        for depth, mask in underway:
            self._each(scored, mask & everyone, prompt, min(depth * block_size, last))
        left = everyone
        for looked_at, (depth, mask) in enumerate(levels):
            own, cached = mask & left, min(depth * block_size, last)
            if own.bit_count() > _FEW:
                left = self._crowd(scored, own, (left, everyone), prompt, cached)
            else:
                if looked_at >= _SURELY and self._bound(prompt, cached) > min(map(_cost, scored), default=_HUGE):
                    left = 0
                self._each(scored, own & left, prompt, cached)
                left &= ~own
            if not left:
                break
        if left.bit_count() > _FEW:
            self._crowd(scored, left, (left, everyone), prompt, 0)
        else:
            self._each(scored, left, prompt, 0)
        return Decision(min(scored, key=_cost), scored, prompt, everyone.bit_count(), self.rule)

    def _bound(self, prompt: int, cached: int) -> float:
        """No engine can cost less with so many tokens cached, whatever its pace."""
        work = ((kind, kind.cost.prefill_work(prompt, cached)[0]) for kind in self._kinds.values())
        return min(float(kind.bases.min()) + self._weight * seconds for kind, seconds in work)

    def _each(self, scored: list[Scored[Name]], mask: int, prompt: int, cached: int) -> None:
        """Add all of `mask`."""
        for kind in self._kinds.values():
            own = mask & kind.mask
            if own:
                seconds, steps = kind.cost.prefill_work(prompt, cached)
                while own:
                    number = own.bit_length() - 1
                    own ^= 1 << number
                    seat = self._by_number[number]
                    work = seconds + steps * seat.pace
                    cost = seat.base + self._weight * work
                    scored.append((cost, seat.name, cached, seat.queue, work, seat.step))

    def _crowd(self, scored: list[Scored[Name]], mask: int, among: tuple[int, int], prompt: int, cached: int) -> int:
        """Add the best of each kind in `mask`, and return who else in `left` may yet be better with less cached."""
        left, everyone = among
        best = min(map(_cost, scored), default=_HUGE)
        remain = 0
        for kind in self._kinds.values():
            if kind.mask & left:
                seconds, steps = kind.cost.prefill_work(prompt, cached)
                costs = self._costs(kind, steps, everyone)
                number, better = self._winner(costs, mask, left, best - self._weight * seconds)
                remain |= better & kind.mask
                if number is not None:
                    self._each(scored, 1 << number, prompt, cached)
        return remain

    def _costs(self, kind: _Kind, steps: float, everyone: int) -> NDArray[np.float64]:
        """By number, less what is the same for all; infinite outside `everyone`."""
        costs = self._scratch
        np.multiply(kind.paces, self._weight * steps, costs)
        np.add(costs, kind.bases, costs)
        if kind.mask & ~everyone:
            np.putmask(costs, self._absent(everyone), inf)
        return costs

    def _winner(self, costs: NDArray[np.float64], mask: int, left: int, limit: float) -> tuple[int | None, int]:
        """The least costly in `mask`, and who in `left` is better but holds less; nobody who costs more than `limit`.

        All are compared as if they held so much, also those that hold more and were scored with it: these cannot cost
        less here than the limit. The winner is mostly in the mask: then nobody else can win any more, and who is in it
        was not worked out for each of a thousand.
        """
        better = 0
        for _ in range(_TRIES if mask.bit_count() * _TRIES > left.bit_count() else 1):
            number = int(costs.argmin())
            if costs.item(number) > limit:
                return None, better
            if mask >> number & 1:
                return number, better
            better |= 1 << number & left
            costs[number] = inf
        np.putmask(costs, self._absent(mask), inf)
        number = int(costs.argmin())
        return number if costs.item(number) <= limit else None, left & ~mask

    def _absent(self, mask: int) -> NDArray[np.bool_]:
        """Which numbers are not in the mask. Kept, as the holders of a prefix that many hold seldom change."""
        known = self._masks.get(mask)
        if known is None:
            missing = (mask ^ ((1 << self._size) - 1)).to_bytes(self._size >> 3, "little")
            known = np.unpackbits(np.frombuffer(missing, np.uint8), bitorder="little").view(np.bool_)
            if len(self._masks) >= _MASKS:
                self._masks.clear()
            self._masks[mask] = known
        return known

    def _next_number(self) -> int:
        number = self._used
        self._used += 1
        if number >= self._size:
            self._size *= 2
            self._scratch = np.empty(self._size)
            self._masks.clear()
            for kind in self._kinds.values():
                kind.grow(self._size)
        return number
