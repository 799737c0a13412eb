"""What an engine is to the replica that serves it: token ids in, one `StepOutput` per step out.

Synchronous and stepped: the replica sends one frame per step and gateway, so a step is the natural unit
(docs/decisions/002-engine-steps.md). One thread calls an engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from coxswain_protocol.messages import Chunk, EngineInfo, Load, Request, StepEvent
from coxswain_workers.engine.errors import ArgumentError

Arithmetic = Literal["exact", "fast"]


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step brought."""

    event: StepEvent
    chunks: list[Chunk]
    stored: list[int]
    """Hashes of KV blocks that became reusable."""
    removed: list[int]
    """Hashes of KV blocks that no longer are."""


class Engine(Protocol):
    """Continues requests, many at a time."""

    info: EngineInfo

    def submit(self, request: Request) -> None:
        """Queue a request. What is wrong with it comes from the next step, as a chunk that finishes with an error."""

    def abort(self, id: str) -> None:  # noqa: A002
        """Stop a request and free its blocks, without a further chunk; an unknown id is ignored."""

    def has_work(self) -> bool:
        """Whether `step` would do anything."""

    def step(self) -> StepOutput:
        """Compute one step. With no work it returns at once, with an empty event."""

    def load(self) -> Load:
        """What is in hand now."""

    def reusable_blocks(self) -> tuple[int, ...]:
        """Hashes of every KV block that a prompt could reuse now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How to run a model. Raises ArgumentError for values that make no sense."""

    arithmetic: Arithmetic = "exact"
    """`exact` gives a token the same bits in every batch, where the machine can; `fast` does not try."""
    block_size: int = 32
    """Tokens per KV block."""
    num_blocks: int | None = None
    """KV blocks; by default enough for `max_num_seqs` full sequences, within half of the free memory."""
    max_model_len: int | None = None
    """Prompt and output together; by default what config.json says."""
    max_num_seqs: int = 32
    max_step_tokens: int = 512
    device: str = "auto"
    """As torch names it; `auto` is the first GPU where there is one, else the CPU."""
    threads: int | None = None
    """CPU threads of the arithmetic; by default 1 for `exact`, torch's own choice for `fast`."""
    model: str = ""
    """Name in EngineInfo; by default the directory's."""
    check_integrity: bool = False
    """Check pool and batch after every step: for tests, it costs more than a small model's step."""

    def __post_init__(self) -> None:
        if self.arithmetic not in ("exact", "fast"):
            raise ArgumentError(f"--arithmetic is {self.arithmetic!r}; it must be exact or fast")
        for name in ("block_size", "max_num_seqs", "max_step_tokens", "num_blocks", "max_model_len", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
        if self.max_step_tokens < self.max_num_seqs:
            raise ArgumentError(
                f"--max-step-tokens is {self.max_step_tokens}; it must be at least --max-num-seqs ({self.max_num_seqs})"
            )
