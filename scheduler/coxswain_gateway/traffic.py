"""The traffic that a gateway tells the coordinator of: who came, how far they are, and how long answers got.

Whoever asks says up to where it knows (a cursor), so that several may ask, and none that is restarted is a matter.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from itertools import count
from secrets import token_hex
from typing import Literal, NamedTuple

from coxswain_gateway.engines import LiveEngine
from coxswain_gateway.generation import Generation
from coxswain_protocol.traffic import EngineKind, StepLine, Traffic

KEPT_SECONDS = 120.0
"""Events that nobody has asked for in that long are forgotten."""

What = Literal["arrival", "answer", "failure"]
_ANSWERED = frozenset({"stop", "length", "client_gone"})


class _Event(NamedTuple):
    number: int
    at: float
    what: What
    tokens: int
    """Of the prompt, or of the answer."""
    age: float


class TrafficLog:
    """The events of the last minutes, and what is open."""

    def __init__(self) -> None:
        self._process = token_hex(4)
        self._numbers = count(1)
        self._last = 0
        self._events: deque[_Event] = deque()
        self._open: dict[str, Generation] = {}

    def started(self, generation: Generation) -> None:
        """It was accepted."""
        self._open[generation.log.id] = generation
        self._note(generation.created, "arrival", len(generation.log.prompt), 0.0)

    def ended(self, generation: Generation, outcome: str, now: float) -> None:
        """It is over."""
        self._open.pop(generation.log.id, None)
        what: What = "answer" if outcome in _ANSWERED else "failure"
        self._note(now, what, len(generation.log.output), now - generation.created)

    def report(self, since: str, *, now: float, engines: Iterable[LiveEngine]) -> Traffic:
        """What happened since the cursor `since`, which may be anything."""
        after = self._number(since)
        events = [event for event in self._events if event.number > after]
        live = [(generation, len(generation.log.output)) for generation in self._open.values()]
        return Traffic(
            cursor=f"{self._process}.{self._last}",
            arrivals=tuple(event.tokens for event in events if event.what == "arrival"),
            open=tuple((tokens, round(now - generation.created, 3)) for generation, tokens in live),
            ended=tuple((event.tokens, round(event.age, 3)) for event in events if event.what == "answer"),
            failed=sum(event.what == "failure" for event in events),
            context=sum(len(generation.log.prompt) + tokens for generation, tokens in live if tokens),
            kinds=_kinds(engines),
        )

    def _note(self, at: float, what: What, tokens: int, age: float) -> None:
        self._last = next(self._numbers)
        self._events.append(_Event(self._last, at, what, tokens, age))
        while self._events[0].at < at - KEPT_SECONDS:
            self._events.popleft()

    def _number(self, cursor: str) -> int:
        """The last event that whoever holds the cursor knows."""
        process, _, number = cursor.partition(".")
        known = process == self._process and number.isdecimal() and len(number) < 20
        return int(number) if known else 0


def _kinds(engines: Iterable[LiveEngine]) -> tuple[EngineKind, ...]:
    """The most frequent first."""
    counted = Counter(map(_kind, engines))
    return tuple(EngineKind(number, *kind) for kind, number in counted.most_common())


def _kind(engine: LiveEngine) -> tuple[int, int, int, StepLine]:
    kv_tokens = engine.total_blocks * engine.block_size
    return kv_tokens, engine.max_num_seqs, engine.step_tokens, StepLine(*engine.timing.line)
