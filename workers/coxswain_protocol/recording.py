"""What a gateway records of a live run: one JSON object a line, tagged by `type`. Times are monotonic seconds.

The first line says what was asked for; the others are in the order in which they became known, a request's when it has
ended. `coxswain-simulate validate` replays it.
"""

from __future__ import annotations

import msgspec


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The gateway's start."""

    policy: str
    ttft_seconds: float | None
    """Objectives; null for none."""
    inter_token_seconds: float | None


class RecordedEngine(msgspec.Struct, frozen=True, tag="engine"):
    """A replica that has connected."""

    replica: str
    at: float
    accelerator: str
    total_blocks: int
    block_size: int
    max_num_seqs: int
    max_step_tokens: int


class RecordedRequest(msgspec.Struct, frozen=True, tag="request"):
    """A request that has ended."""

    arrival: float
    prompt_tokens: int
    hashes: tuple[int, ...]
    """Chained hashes of the prompt's full blocks."""
    output_tokens: int
    first_token: float | None
    last_token: float | None
    replica: str
    """The last one it ran on."""
    cached: int
    """Prompt tokens found in its first replica's prefix cache."""
    attempts: int
    outcome: str
    """stop, length, client_gone, lost, error or shed."""


class RecordedStep(msgspec.Struct, frozen=True, tag="step"):
    """A step of a replica, as it told of it."""

    replica: str
    at: float
    """When the gateway heard of it."""
    number: int
    seconds: float
    prefill_tokens: int
    decodes: int
    context: int


Recorded = Begun | RecordedEngine | RecordedRequest | RecordedStep
