"""What a cost model answers: seconds of one engine step, and of a run of decode steps at once."""

from __future__ import annotations

from typing import Protocol


class Work:
    """One engine step. (No named tuple: compiled code makes and reads this one ten times as fast.)"""

    __slots__ = ("context", "decodes", "prefill_pairs", "prefill_tokens")

    def __init__(self, prefill_tokens: int = 0, prefill_pairs: int = 0, decodes: int = 0, context: int = 0) -> None:
        self.prefill_tokens = prefill_tokens
        """Prompt tokens computed."""
        self.prefill_pairs = prefill_pairs
        """Query-key pairs of those tokens: for `count` from position `start`, count·start + count·(count+1)/2."""
        self.decodes = decodes
        """Sequences that get one more token."""
        self.context = context
        """KV tokens that these sequences attend to, added up."""

    @property
    def amounts(self) -> tuple[int, int, int, int]:
        """All four, in this order."""
        return self.prefill_tokens, self.prefill_pairs, self.decodes, self.context

    def __repr__(self) -> str:
        return f"Work{self.amounts}"


class Timing(Protocol):
    """The cost model of one engine. Pure: the same work always takes the same time."""

    def seconds(self, work: Work) -> float:
        """Seconds of one step."""

    def decode_seconds(self, decodes: int, context: int, steps: int) -> float:
        """Seconds of `steps` steps that only decode: `context` in the first, `decodes` more in each that follows."""

    def decode_steps(self, decodes: int, context: int, seconds: float) -> int:
        """The most such steps that end within `seconds`. `decode_seconds` of the answer is at most `seconds`."""
