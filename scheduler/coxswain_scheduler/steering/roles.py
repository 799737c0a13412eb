"""Whether engines that prefill and engines that decode are apart, and which is which.

They are apart where prefills take a good part of the fleet's time, for then they disturb decodes; and only where KV is
sent sooner than it is computed anew.
"""

from __future__ import annotations

from typing import Final

from coxswain_scheduler.demand import Demand
from coxswain_scheduler.interface import Cluster
from coxswain_scheduler.packing import Packing
from coxswain_scheduler.prefilling import Seat, Seats

TYPICAL_PROMPT: Final = 4096
"""Tokens of a prompt by which computing KV is compared with sending it."""
_STALL = (0.8, 1.0)
"""Inter-token objectives that a prefill takes: below, the two go together, for where prompts are short, decodes hardly
notice them; above, they may go apart."""
_PREFILL_SHARE = (0.28, 0.35)
"""Share of the demand that is prefill, likewise: below, they do not disturb each other much."""
_PRESSURE = (0.03, 0.05)
"""Share of the fleet that is in demand, likewise: what hardly does anything is left as it is."""


class Roles:
    """The engines' roles; without separation, all serve."""

    def __init__(self, cluster: Cluster, seats: Seats, *, packing: Packing, demand: Demand) -> None:
        self.can_separate = self.separate = False
        self._cluster = cluster
        self._seats = seats
        self._packing = packing
        self._demand = demand

    def check_link(self) -> None:
        """Prefill and decode can be apart if there are several engines and KV is sent sooner than computed."""
        seats, link = self._seats.all, self._cluster.link_bytes_per_second
        self.can_separate = False
        if len(seats) > 1 and link:
            sending = TYPICAL_PROMPT * self._cluster.kv_bytes_per_token / link
            computing = min(self._seats.durations.seconds(seat, TYPICAL_PROMPT, 0) for seat in seats.values())
            self.can_separate = sending < computing
        if not self.can_separate:
            self._unite()

    def reconsider(self) -> None:
        """Have prefill and decode apart, or together, as the traffic of late wants it."""
        now, engines = self._cluster.now, self._cluster.engines
        prefill, decode = self._demand.of_prefill(now), self._demand.of_decode(engines.values())
        pressure, share = (prefill + decode) / len(engines), prefill / max(prefill + decode, 1e-9)
        stall = self._demand.prefill_seconds / self._cluster.objectives.inter_token
        if pressure < _PRESSURE[0] or share < _PREFILL_SHARE[0] or stall < _STALL[0]:
            self._unite()
        elif pressure > _PRESSURE[1] and share > _PREFILL_SHARE[1] and stall > _STALL[1]:
            self._part()

    def opened(self, seat: Seat) -> None:
        """It takes prompts."""
        seat.engine.role = "Prefill" if self.separate else "Serve"

    def _part(self) -> None:
        if self.separate:
            return
        self.separate = True
        for seat in list(self._seats.all.values()):
            if self._packing.decoding[seat.id]:
                self._seats.close(seat.id)
            seat.engine.role = "Prefill" if seat.id in self._seats.open else "Decode"

    def _unite(self) -> None:
        if not self.separate:
            return
        self.separate = False
        for seat in self._seats.all.values():
            seat.engine.role = "Serve"
            if seat.id not in self._seats.open:
                self._seats.reopen(seat)
