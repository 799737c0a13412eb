"""One engine as a place to prefill."""

from __future__ import annotations

from coxswain_scheduler.interface import Engine
from coxswain_scheduler.openings import Opening


class Seat:
    """What was last seen of an engine, in plain figures: they are compared for every prompt."""

    __slots__ = (
        "block_size", "blocks", "credit", "decoding", "earned", "engine", "free_at", "id", "kind", "looked",
        "opening", "overwrites", "step", "used",
    )  # fmt: skip

    def __init__(self, engine: Engine, kind: dict[int, float]) -> None:
        self.engine = engine
        self.id = engine.id
        self.block_size = engine.block_size
        self.kind = kind
        """Seconds of a prefill by uncached and cached tokens, shared by engines of one timing (see `Durations`)."""
        self.free_at = 0.0
        """When the prompts that it was given are computed."""
        self.credit = 0.0
        """Seconds that its decodes can afford to stall."""
        self.earned = 0.0
        """Seconds of stalls that they save up in each second; 0 where nothing decodes."""
        self.decoding = 0
        self.used = 0.0
        """Share of its KV that sequences hold."""
        self.step = 0.0
        """Seconds of their step."""
        self.blocks = 0
        """For which there is room."""
        self.looked = -1.0
        """When its decodes were last looked at."""
        self.opening: Opening[Seat] | None = None
        """Its place among many that are open, unless it has just been given a prompt (see `Seats`)."""
        self.overwrites = 0.0
        """Tokens that it has computed, and so evicted as many from its cache; later ones weigh more."""

    def ready(self, now: float) -> bool:
        """Whether it can take another prompt into its next step."""
        engine = self.engine
        if engine.waiting:
            return False
        if engine.running == 0:
            return True
        if engine.decoding:
            return not engine.pending_prefill
        return self.free_at <= now and engine.busy_until <= now
