"""Requests as a trace has them: with what only hindsight knows."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """One request. Policies never see this: they are given what a gateway sees."""

    id: int
    """Position in the trace."""
    arrival: float
    """Seconds from the start of the trace, before any speed-up."""
    prompt_tokens: int
    """At least 1."""
    output_tokens: int
    """At least 1. Hindsight: no policy may know it."""
    chunks: tuple[int, ...] = ()
    """Name of the content of each `Trace.chunk_tokens` prompt tokens, the last one perhaps of fewer; an equal name
    means an equal prefix up to there. Empty: shares nothing with any other request."""
    priority: int = 0
    """Higher goes first."""
    deadline: float | None = None
    """Seconds after arrival at which the whole answer is due; None where only the objectives count."""
    tenant: str = ""
    workflow: str = ""
    """Requests of one workflow are its stages; a stage arrives when those it is `after` have ended."""
    after: tuple[int, ...] = ()
    """Ids of requests that must end first; `arrival` then counts from the end of the last of them."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival."""

    name: str
    requests: tuple[TraceRequest, ...] = field(repr=False)
    chunk_tokens: int = 512

    @property
    def seconds(self) -> float:
        """Arrival of the last request."""
        return self.requests[-1].arrival if self.requests else 0.0
