"""The dispatch under an autoscaler: wherever there is most room, and nowhere beyond it.

Engines that take more than they carry miss the objectives of everything that they run, so what does not fit waits at
the gateway, where an overload costs only the requests that are too many. Those that have waited beyond their TTFT
objective let the others go first: they are late already. There is no shedding, nothing accepted is given up.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.interface import Cluster, Engine, Request

_KV_FULL = 0.92
"""Share of an engine's blocks up to which it is given requests; the rest is for the growth of those it runs."""
_LAST_SHARE = 0.2
"""Of the TTFT objective: for the step under way in the engine, and for the prompts before it there."""
_STEP_FULL = 0.94
"""Share of the inter-token objective that a decode step may take."""
_FULL_FOR_LATE = 0.85
"""Fullness up to which an engine is given requests that are late already, so that those who come next find room."""


class Load(NamedTuple):
    """What is on an engine. The first field orders."""

    fullness: float
    """1 where it takes no more."""
    sequences: int
    blocks: int


class Rooms:
    """The least full first; first come, first served, the late ones last."""

    period: float | None = None

    def begin(self, cluster: Cluster) -> None:
        """Look at the engines."""
        self._cluster = cluster
        self._loads: dict[int, Load] = {}
        self._fresh: deque[Request] = deque()
        self._late: deque[Request] = deque()
        for engine in cluster.engines.values():
            self._look(engine)

    @property
    def held(self) -> int:
        """Requests that wait here."""
        return len(self._fresh) + len(self._late)

    @property
    def oldest(self) -> Request | None:
        """The one among them that is not late and came first."""
        return self._fresh[0] if self._fresh else None

    def arrived(self, request: Request) -> None:
        """Queue and dispatch."""
        self._fresh.append(request)
        self._drain()

    def prefilled(self, request: Request) -> None:
        """Nothing is dispatched on hold."""

    def ended(self, request: Request) -> None:
        """Its engine reports the room itself."""

    def stepped(self, engine: Engine) -> None:
        """Its room has changed."""
        if engine.id in self._cluster.engines:
            self._look(engine)
            if self.held:
                self._drain()

    def tick(self) -> None:
        """Go on with what waits."""
        self._drain()

    def joined(self, engine: Engine) -> None:
        """There is room."""
        self._look(engine)
        self._drain()

    def lost(self, engine: int) -> None:
        """Forget it."""
        self._loads.pop(engine, None)

    def explain(self, request: Request) -> str:
        """One line."""
        return str(request.note or "waits for room")

    def _look(self, engine: Engine) -> None:
        sequences = engine.running + engine.waiting
        blocks = engine.total_blocks - engine.free_blocks + engine.waiting_blocks
        self._loads[engine.id] = self._load(engine, sequences, blocks)

    def _load(self, engine: Engine, sequences: int, blocks: int) -> Load:
        """How full an engine is with so much on it: by KV, by sequences, or by the time of a decode step."""
        step = engine.timing.seconds(Work(decodes=sequences, context=blocks * engine.block_size)) if sequences else 0.0
        fullness = max(
            blocks / engine.total_blocks / _KV_FULL,
            sequences / engine.max_num_seqs,
            step / (_STEP_FULL * self._cluster.objectives.inter_token),
        )
        return Load(fullness, sequences, blocks)

    def _drain(self) -> None:
        while self._fresh and self._is_late(self._fresh[0]):
            self._late.append(self._fresh.popleft())
        for queue, full in ((self._fresh, 1.0), (self._late, _FULL_FOR_LATE)):
            while queue and self._loads and self._dispatch(queue[0], full):
                queue.popleft()

    def _is_late(self, request: Request) -> bool:
        """Whether its first token can no longer be expected in time."""
        waited, ttft = self._cluster.now - request.arrival, self._cluster.objectives.ttft
        if waited < (1.0 - _LAST_SHARE) * ttft / 2 or not self._cluster.engines:
            return False
        timing = next(iter(self._cluster.engines.values())).timing
        tokens = request.prompt_tokens
        return waited + timing.seconds(Work(tokens, tokens * (tokens + 1) // 2)) > (1.0 - _LAST_SHARE) * ttft

    def _dispatch(self, request: Request, full: float) -> bool:
        """To the least full engine, if it is not too full with this request, or empty."""
        chosen = min(self._loads, key=self._loads.__getitem__)
        engine, now = self._cluster.engines[chosen], self._loads[chosen]
        blocks = -(-(request.prompt_tokens + request.emitted) // engine.block_size)
        then = self._load(engine, now.sequences + 1, now.blocks + blocks)
        if then.fullness > full and now.sequences:
            return False
        self._loads[chosen] = then
        request.note = f"engine {chosen}: least full of {len(self._loads)}, {now.fullness:.0%} before"
        self._cluster.dispatch(request, chosen)
        return True
