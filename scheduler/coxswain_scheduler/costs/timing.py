"""What a cost model answers: seconds of one engine step, and of a run of decode steps at once."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Work(NamedTuple):
    """One engine step."""

    prefill_tokens: int = 0
    """Prompt tokens computed."""
    prefill_pairs: int = 0
    """Query-key pairs of those tokens: for `count` tokens from position `start`, count·start + count·(count+1)/2."""
    decodes: int = 0
    """Sequences that get one more token."""
    context: int = 0
    """KV tokens that these sequences attend to, added up."""


class Timing(Protocol):
    """The cost model of one engine. Pure: the same work always takes the same time."""

    def seconds(self, work: Work) -> float:
        """Seconds of one step."""

    def decode_seconds(self, decodes: int, context: int, steps: int) -> float:
        """Seconds of `steps` steps that only decode: `context` in the first, `decodes` more in each that follows."""

    def decode_steps(self, decodes: int, context: int, seconds: float) -> int:
        """The most such steps that end within `seconds`. `decode_seconds` of the answer is at most `seconds`."""
