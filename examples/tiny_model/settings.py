"""What to train, apart from what imports torch, so that asking for help stays quick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train. Training ends after `steps`, or after `minutes` of training proper where those are given."""

    steps: int = 1000
    minutes: float | None = None
    seed: int = 0
    vocab_size: int = 4096
    hidden: int = 256
    layers: int = 4
    intermediate: int = 704
    window: int = 256
    """Tokens in a training sequence."""
    batch: int = 2
    """Sequences per step: so few because, this early, more steps teach more than better gradients."""
    bigram_steps: int = 60
