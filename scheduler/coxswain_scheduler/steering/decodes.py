"""Requests after their prefill: where each decodes, when it moves, and when batch work pauses for the others."""

from __future__ import annotations

from coxswain_scheduler.balancing import Balancing
from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.packing import Packing
from coxswain_scheduler.prefilling import Clearing, Seats
from coxswain_scheduler.steering.prompts import Prompts
from coxswain_scheduler.steering.roles import TYPICAL_PROMPT, Roles


class Decodes:
    """What decodes, and what is prefilled and has no place to decode yet."""

    def __init__(
        self, cluster: Cluster, seats: Seats, roles: Roles, prompts: Prompts, *, packing: Packing, clearing: Clearing
    ) -> None:
        """`clearing`: the prompts for which room is to be made."""
        self._cluster = cluster
        self._seats = seats
        self._roles = roles
        self._prompts = prompts
        self._packing = packing
        self._clearing = clearing
        self._balancing = Balancing(cluster, packing)
        self._held: list[Request] = []

    def prefilled(self, request: Request) -> None:
        """A request that was dispatched with `hold` is to decode."""
        self._held.append(request)
        self.place_held()

    def ended(self, request: Request) -> None:
        """It decodes no more."""
        engine = self._packing.where(request)
        if engine is not None:
            self._packing.left(request, engine)
            self._freed(engine)

    def lost(self) -> None:
        """An engine is gone, and what was on hold there."""
        self._held = [request for request in self._held if request.engine is not None]

    def place_held(self) -> None:
        """Place what waits for a place, in order."""
        while self._held:
            request = self._held[0]
            if request.engine is not None and not self._place(request):
                return
            self._held.pop(0)

    def rearrange(self) -> None:
        """Move what had better decode elsewhere, and pause batch work that slows others, or let it go on."""
        engines = list(self._cluster.engines.values())
        self._packing.hosts.choose(engines, self._prompts.others_tokens())
        if self._roles.separate:
            for request, target in self._packing.gather(engines):
                self._move(request, target)
        elif self._roles.can_separate:
            self._packing.look()
            self._balance()
        for engine in engines:
            self._relieve(engine)

    def _place(self, request: Request) -> bool:
        target = self._packing.best(request, self._cluster.engines.values())
        if target is None:
            if len(self._seats.open) < 2 and self._roles.separate:
                return False
            target = self._new_decoder(request)
        self._packing.placed(request, target.id)
        if self._roles.separate and self._seats.close(target.id):
            target.role = "Decode"
        self._cluster.place(request, target.id)
        self._relieve(target)
        return True

    def _new_decoder(self, request: Request) -> Engine:
        """Where it is, so that its KV need not travel; else where the least waits for a prefill."""
        seats = self._seats.open
        if request.engine in seats:
            return seats[request.engine].engine
        return min(seats.values(), key=lambda seat: seat.free_at).engine

    def _move(self, request: Request, target: Engine) -> None:
        source = request.engine
        assert source is not None
        self._packing.left(request, source)
        self._packing.placed(request, target.id)
        self._cluster.move(request, target.id)
        self._freed(source)

    def _freed(self, engine: int) -> None:
        """Something that decoded there is gone."""
        seats = self._seats
        seat = seats.all.get(engine)
        if seat is None:
            return
        if engine not in seats.open and not self._packing.decoding[engine]:
            seats.reopen(seat)
            self._roles.opened(seat)
        if engine in seats.open:
            if seats.many:
                seats.refresh(seat)
            self._prompts.serve(seat)
            seats.settle(seat)

    def _balance(self) -> None:
        """Migrate from engines whose KV runs out, for prompts that find no room, and to even out steps."""
        seconds = self._seats.durations.seconds
        costs = {name: seconds(seat, TYPICAL_PROMPT, 0) / TYPICAL_PROMPT for name, seat in self._seats.all.items()}
        for request, target in self._balancing.moves(costs, self._clearing.wanted):
            self._move(request, target)

    def _relieve(self, engine: Engine) -> None:
        if not self._cluster.can_pause:
            return
        pause, resume = self._packing.relieve(engine)
        for request in pause:
            self._packing.paused[request.id] = request
            self._cluster.pause(request)
        for request in resume:
            del self._packing.paused[request.id]
            self._cluster.resume(request)
