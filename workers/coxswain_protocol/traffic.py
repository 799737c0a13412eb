"""What a gateway tells the coordinator of its requests, so that it can say how many replicas they need."""

from __future__ import annotations

import msgspec


class StepLine(msgspec.Struct, frozen=True):
    """What a step of an engine was learnt to take: seconds of a step, and of each thing in it."""

    step: float
    prefill_token: float
    decode: float
    context_token: float


class EngineKind(msgspec.Struct, frozen=True):
    """Replicas that are alike, of those that are open."""

    replicas: int
    kv_tokens: int
    max_num_seqs: int
    step_tokens: int
    """Computed in one step at most."""
    cost: StepLine


class Traffic(msgspec.Struct, frozen=True):
    """`GET /internal/traffic?since=CURSOR` of a gateway: what happened since, and what is under way.

    An answer is (output tokens so far, seconds since its request came). Without a cursor, with another process's, or
    with one from long ago, only the last minutes' events are there.
    """

    cursor: str
    """To be asked with the next time."""
    arrivals: tuple[int, ...] = ()
    """Prompt tokens of each request that came."""
    open: tuple[tuple[int, float], ...] = ()
    """Each request that has not ended."""
    ended: tuple[tuple[int, float], ...] = ()
    """Each that was answered, or left by its client."""
    failed: int = 0
    """Requests that were refused to keep to the objectives, or lost."""
    context: int = 0
    """KV tokens that the open requests with a token hold, about."""
    kinds: tuple[EngineKind, ...] = ()
