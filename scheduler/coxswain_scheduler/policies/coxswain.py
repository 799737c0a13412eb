"""Coxswain's own policy: prompts wait in one queue, decodes are packed, and an engine's role follows from what it has.

- Prompts wait at the gateway, not in engines, in the order in which they must start (`queueing`). An engine that has
  nothing more to prefill is given the next prompt for which it is the best place (`prefilling`); so the choice is made
  with what is known at the last moment, and no prompt waits behind another while an engine idles.
- After its prefill a request decodes on the fullest engine that has room for it (`packing`); engines without decodes
  prefill. So the split between the two follows the load from moment to moment, and none has to be given.
- When not all that waits can be in time, the longest is refused (Moore–Hodgson), yet no class of prompt lengths falls
  below its floor. What cannot be in time any more is refused while others wait for the engine, and served otherwise.
- A high priority goes first, and decodes where others leave room; batch work (a negative priority) fills the gaps,
  grouped by prefix, and is paused with its KV when its neighbours' steps become too long.
- All this is for traffic whose prompts take a good part of the engines' time. Where they hardly matter, and where KV
  cannot travel (or travels longer than it takes to compute), requests decode where they were prefilled, on the engine
  that they disturb least, and move only when its KV runs out (`migration`), or high priorities to hosts (`hosting`).
"""

from __future__ import annotations

from typing import Final

from coxswain_scheduler.demand import Demand
from coxswain_scheduler.interface import Cluster, Engine, Request
from coxswain_scheduler.packing import Packing
from coxswain_scheduler.prefilling import Choosing, Seat, Seats
from coxswain_scheduler.queueing import Job
from coxswain_scheduler.steering import Decodes, Prompts, Roles

_STEP_SHARE: Final = 0.97
"""Of the inter-token objective: what a planned decode step may take."""


class Coxswain:
    """See the module.

    Args:
        patience: Seconds of prefill that a second of waiting is worth.
        look: Waiting prompts that a free engine chooses from.
        fill: An engine with fewer tokens to prefill takes another prompt into the same step.
        full: Share of an engine's KV that decodes may be planned to fill.
        reserved: Share of it that others leave free where high priorities decode, and nobody prefills.
        floor: Share of each fifth of the prompt lengths that is not refused for the others' sake.
        reserve: Seconds before the TTFT objective by which a prefill is to be done: the first decode step follows it.
        stall: Inter-token objectives of stalls that decodes can save up for, where engines both prefill and decode.
        pace: Share of the inter-token objective that steps and stalls together may take there.
        steps: Decode steps for which an engine keeps KV free there, so that migration can relieve it in time.
    """

    period: float | None = 0.1
    """Seconds between two looks for scattered decodes."""

    def __init__(
        self,
        *,
        patience: float = 0.25,
        look: int = 12,
        fill: int = 4096,
        full: float = 0.97,
        reserved: float = 0.8,
        floor: float = 0.8,
        reserve: float = 0.06,
        stall: float = 5.0,
        pace: float = 0.85,
        steps: int = 32,
        seed: int = 0,
    ) -> None:
        self._patience, self._look, self._fill = patience, look, fill
        self._full, self._reserved, self._floor, self._reserve = full, reserved, floor, reserve
        self._stall, self._pace, self._steps = stall, pace, steps
        del seed  # nothing is left to chance

    # What happens

    def begin(self, cluster: Cluster) -> None:
        step = cluster.objectives.inter_token * _STEP_SHARE
        self._cluster = cluster
        self._packing = packing = Packing(full=self._full, reserved=self._reserved, inter_token=step)
        self._seats = seats = Seats(
            cluster,
            patience=self._patience,
            fill=self._fill,
            stall=self._stall,
            pace=self._pace,
            spare=self._spare,
            hosts=packing.hosts.engines,
            lasting=packing.lasting,
        )
        demand = Demand(full=self._full)
        self._choosing = choosing = Choosing(cluster, seats, patience=self._patience)
        self._roles = roles = Roles(cluster, seats, packing=packing, demand=demand)
        self._prompts = Prompts(
            cluster,
            seats,
            choosing,
            roles,
            packing=packing,
            demand=demand,
            look=self._look,
            floor=self._floor,
            reserve=self._reserve,
        )
        self._decodes = Decodes(cluster, seats, roles, self._prompts, packing=packing, clearing=choosing.clearing)
        for engine in cluster.engines.values():
            self._seat(engine)

    def arrived(self, request: Request) -> None:
        self._prompts.arrived(request)

    def prefilled(self, request: Request) -> None:
        self._decodes.prefilled(request)

    def ended(self, request: Request) -> None:
        if request.emitted:
            self._packing.answers.ended(request.emitted)
        if isinstance(request.note, Job):
            self._prompts.ended(request.note)
        self._decodes.ended(request)

    def stepped(self, engine: Engine) -> None:
        self._decodes.place_held()
        seat = self._seats.open.get(engine.id)
        if seat is not None:
            self._seats.refresh(seat)
            self._prompts.serve(seat)
            self._seats.settle(seat)

    def tick(self) -> None:
        if self._roles.can_separate:
            self._roles.reconsider()
        self._decodes.rearrange()
        self._seats.durations.relearn()
        self._seats.relist()
        self._prompts.serve_idle()

    def joined(self, engine: Engine) -> None:
        self._prompts.serve(self._seat(engine))

    def lost(self, engine: int) -> None:
        self._choosing.clearing.drop(engine)
        self._seats.drop(engine)
        self._packing.drop(engine)
        self._decodes.lost()
        self._roles.check_link()

    def explain(self, request: Request) -> str:
        job = request.note
        if not isinstance(job, Job) or job.decision is None:
            return f"request {request.id} waits for an engine on which it can be in time"
        return f"request {request.id}: {job.decision}"

    # Parts

    def _seat(self, engine: Engine) -> Seat:
        self._packing.add(engine.id)
        seat = self._seats.add(engine)
        self._roles.check_link()
        self._roles.opened(seat)
        return seat

    def _spare(self, engine: Engine) -> int:
        """Blocks for a prompt there: what decodes will need is kept free until migration can relieve them, where there
        is migration, and else until they end."""
        if not self._roles.can_separate:
            return self._packing.room(engine, 0)
        return self._packing.spare(engine, steps=self._steps)
