"""What a prompt costs beside its prefill and its wait: the decodes of the engine, and what its cache forgets."""

from __future__ import annotations

from math import pow  # noqa: A004 - compiled, it takes no objects
from typing import Final

from coxswain_scheduler.prefilling.seat import Seat

_DISTURBANCE: Final = 0.1
"""What stalling another request for a second costs, in seconds of prefill."""
_DELAY: Final = 0.15
"""The same for a long answer, on top."""
_SPREAD: Final = 5.0
"""What a slower decode step costs, in steps."""
_FULLNESS: Final = 0.3
"""What a full KV memory costs, in seconds of prefill: those in it are soon preempted."""
_APART: Final = 0.5
"""What it costs others to decode where high priorities do, and one of a high priority not to, in seconds of prefill."""
_HASTE: Final = 20.0
"""What it costs to stall high priorities, in stalls; for one of them too, which may come there when it is prefilled."""
_WEAR: Final = 0.25
"""What computing a prompt costs, in its own seconds, where twice as much is computed as elsewhere: the cache of such an
engine forgets twice as soon, so what it evicts is twice as young."""
_USUAL: Final = 0.4
"""Seconds of a prefill by which seats are listed: what they cost another."""
_RENORMALISE: Final = 1e100


class Tolls:
    """What seats cost, in seconds of prefill."""

    def __init__(self, *, patience: float, hosts: set[int], lasting: dict[int, int]) -> None:
        """`hosts`: engines on which high priorities decode, as of now; `lasting`: how many long answers decode on
        each."""
        self._patience = patience
        self._hosts = hosts
        self._lasting = lasting
        self._seats: dict[int, Seat] = {}
        self._memory = 0.0
        self._weight = 1.0
        """Of a token that is computed now: it doubles each time the fleet's memory has been computed twice over."""
        self._fair = 0.0
        """1 / the mean of all seats' `overwrites`."""

    def add(self, seat: Seat) -> None:
        """A seat more, and its cache."""
        self._seats[seat.id] = seat
        self._memory += seat.engine.total_blocks * seat.block_size

    def drop(self, engine: int) -> None:
        """A seat less."""
        self._seats.pop(engine, None)

    def toll(self, seat: Seat, seconds: float, *, urgent: bool) -> float:
        """What the decodes there cost the request (of a high priority if `urgent`), and it them."""
        toll = (_DISTURBANCE * seat.decoding + _DELAY * self._lasting[seat.id]) * seconds + _FULLNESS * seat.used
        toll += _SPREAD * seat.step
        if self._hosts:
            host = seat.id in self._hosts
            if host != urgent:
                toll += _APART
            if host:
                toll += _HASTE * max(0.0, seconds - seat.step)
        return self._patience * toll

    def wear(self, seat: Seat, seconds: float) -> float:
        """What a prefill costs its cache, against the mean."""
        if not self._fair:
            return 0.0
        return _WEAR * seconds * (seat.overwrites * self._fair - 1.0)

    def usual(self, seat: Seat) -> float:
        """What it costs a usual prompt."""
        return self.toll(seat, _USUAL, urgent=False) + _WEAR * _USUAL * seat.overwrites * self._fair

    def computed(self, seat: Seat, tokens: int) -> None:
        """So many tokens are computed there, and overwrite as many."""
        computed, seats = float(tokens), float(len(self._seats))
        seat.overwrites += computed * self._weight
        self._weight *= pow(2.0, 2.0 * computed / self._memory)
        if self._weight > _RENORMALISE:
            for each in self._seats.values():
                each.overwrites /= self._weight
            self._fair, self._weight = 0.0, 1.0
        if not self._fair:
            total = sum(each.overwrites for each in self._seats.values())
        else:
            total = seats / self._fair + computed * self._weight
        self._fair = seats / total if total else 0.0
