"""What engines have not told yet of what was dispatched to them, for policies that know of their load by reports alone.

In Llumnix (its artifact of OSDI'24 as well as later releases) an engine tells of its load with the output of a step, as
it was when the step began, and nothing that is dispatched in between is counted. So what is dispatched during a step is
known when the next one is over; until then an engine looks as free as before, and gets all that arrives.
"""

from __future__ import annotations

from typing import NamedTuple

from coxswain_scheduler.costs.timing import Work
from coxswain_scheduler.interface import Engine, Request


class Sent(NamedTuple):
    """A request on its way into the reports."""

    request: Request
    blocks: int
    known: float
    """When they tell of it."""


class Reports:
    """Of all engines; `untold` says what to leave out of what an engine has."""

    def __init__(self) -> None:
        self._sent: dict[int, list[Sent]] = {}

    def sent(self, request: Request, engine: Engine, *, now: float) -> None:
        """`request` is about to be dispatched to `engine`, whose next step prefills what is queued if there is room."""
        blocks = -(-(request.prompt_tokens + request.emitted) // engine.block_size)
        queued = engine.waiting_blocks + blocks
        count = min(queued * engine.block_size, engine.step_tokens) if queued <= engine.free_blocks else 0
        step = Work(count, count * (count + 1) // 2, engine.decoding, engine.context)
        known = max(now, engine.busy_until) + engine.timing.seconds(step)
        self._sent.setdefault(engine.id, []).append(Sent(request, blocks, known))

    def untold(self, engine: Engine, *, now: float) -> tuple[int, int]:
        """How many requests there are not known of, and the blocks that they take or ask for."""
        sent = self._sent.get(engine.id)
        if not sent:
            return 0, 0
        sent[:] = [one for one in sent if one.known > now and one.request.engine == engine.id]
        return len(sent), sum(one.blocks for one in sent)
