"""Requests in flight, as a gateway counts them itself: no report of an engine is needed, and none is late."""

from __future__ import annotations

from dataclasses import dataclass, field

from coxswain_scheduler.interface import Request


@dataclass(slots=True)
class Flight:
    """One dispatched request."""

    request: Request
    engine: int
    tokens: int
    """Prompt tokens that its engine has to compute; 0 from its first token on."""
    seconds: float
    """Predicted for them."""
    emitted: int
    """Tokens that the client had when it was dispatched: more mean that its prompt is computed."""


@dataclass(slots=True)
class Load:
    """What is in flight to one engine."""

    flights: dict[int, Flight] = field(default_factory=dict)
    prefilling: dict[int, Flight] = field(default_factory=dict)
    """Those without a token yet, in order of dispatch."""
    tokens: int = 0
    """Prompt tokens that they wait for."""
    seconds: float = 0.0
    """The same as predicted seconds, the head's whole."""
    context: int = 0
    """Prompt tokens of all in flight."""
    since: float = 0.0
    """When the head of `prefilling` began."""

    @property
    def count(self) -> int:
        """Requests in flight."""
        return len(self.flights)

    def queue_seconds(self, now: float) -> float:
        """Predicted seconds until all of `prefilling` is computed, the head's progress taken off."""
        if not self.prefilling:
            return 0.0
        head = next(iter(self.prefilling.values()))
        return max(0.0, self.seconds - min(head.seconds, now - self.since))


class Flights:
    """The loads of all engines; a request is on one of them at most."""

    def __init__(self) -> None:
        self._loads: dict[int, Load] = {}
        self._flights: dict[int, Flight] = {}

    def __getitem__(self, engine: int) -> Load:
        return self._loads.setdefault(engine, Load())

    def get(self, request: Request) -> Flight | None:
        """The flight of a request, if it is in flight."""
        return self._flights.get(request.id)

    def join(self, engine: int) -> None:
        """Know an engine."""
        self._loads.setdefault(engine, Load())

    def drop(self, engine: int) -> None:
        """Forget an engine with all that flew to it."""
        load = self._loads.pop(engine, None)
        for request in load.flights if load else ():
            del self._flights[request]

    def add(self, request: Request, engine: int, *, tokens: int, now: float, seconds: float = 0.0) -> None:
        """A request is dispatched; with no tokens to prefill, to decode only."""
        flight = Flight(request, engine, tokens, seconds, request.emitted)
        load = self._loads.setdefault(engine, Load())
        self._flights[request.id] = load.flights[request.id] = flight
        load.context += request.prompt_tokens
        if tokens:
            if not load.prefilling:
                load.since = now
            load.prefilling[request.id] = flight
            load.tokens += tokens
            load.seconds += seconds

    def remove(self, request: Request, *, now: float) -> bool:
        """A request has ended, moved or was taken back. False if it was not in flight."""
        flight = self._flights.pop(request.id, None)
        if flight is None:
            return False
        load = self._loads[flight.engine]
        self._computed(load, flight, now)
        del load.flights[request.id]
        load.context -= request.prompt_tokens
        return True

    def settle(self, engine: int, *, now: float) -> None:
        """Note which prompts of an engine are computed: their requests have emitted a token. Looks at the head only,
        as engines prefill in order of dispatch."""
        load = self._loads.get(engine)
        while load is not None and load.prefilling:
            head = next(iter(load.prefilling.values()))
            if head.request.emitted <= head.emitted:
                return
            self._computed(load, head, now)

    @staticmethod
    def _computed(load: Load, flight: Flight, now: float) -> None:
        if load.prefilling.pop(flight.request.id, None) is not None:
            load.tokens -= flight.tokens
            load.seconds = load.seconds - flight.seconds if load.prefilling else 0.0
            load.since = now
