"""Stop strings over a stream of text: found across token borders, and never half shown."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Watches one sequence's text. Text that may turn out to begin a stop string is held back until it is decided."""

    __slots__ = ("_held", "_include", "_longest", "_stops", "matched")

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.matched: str | None = None
        """The stop string found; nothing more is to be fed then."""

    def feed(self, text: str) -> str:
        """The text that may be shown now. After a match: all of it up to the stop string (or through it)."""
        if not self._stops:
            return text
        text = self._held + text
        found = min(((at, stop) for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if found is not None:
            at, self.matched = found
            self._held = ""
            return text[: at + len(self.matched)] if self._include else text[:at]
        shown = len(text) - self._undecided(text)
        self._held = text[shown:]
        return text[:shown]

    def flush(self) -> str:
        """What was held back, when the sequence ends without a match."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
