"""The demo's verdict: which streams were lost, which differ from the same requests undisturbed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How one stream ended: its output token ids, and OpenAI's finish reason (None if it never got one)."""

    tokens: tuple[int, ...]
    finish: str | None


@dataclass(frozen=True)
class Comparison:
    """Names of streams. `lost` did not end with the undisturbed finish reason; `different` ended with other tokens."""

    lost: tuple[str, ...]
    different: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing different."""
        return not self.lost and not self.different


def compare(disturbed: Mapping[str, Outcome], undisturbed: Mapping[str, Outcome]) -> Comparison:
    """Judge every undisturbed stream's counterpart. A stream that is missing, unfinished or cut short is lost.

    Raises ValueError when the undisturbed run itself is no measure: empty, or with a stream that did not finish.
    """
    unfinished = sorted(name for name, outcome in undisturbed.items() if outcome.finish is None or not outcome.tokens)
    if not undisturbed or unfinished:
        raise ValueError(f"the undisturbed run cannot be compared with: {', '.join(unfinished) or 'it has no streams'}")
    lost, different = [], []
    for name, expected in sorted(undisturbed.items()):
        actual = disturbed.get(name)
        if actual is None or actual.finish != expected.finish:
            lost.append(name)
        elif actual.tokens != expected.tokens:
            different.append(name)
    return Comparison(tuple(lost), tuple(different))
