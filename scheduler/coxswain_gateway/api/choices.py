"""The text of one sequence, made from its token log: what a client is shown of it, and where it stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coxswain_gateway.generation import Generation
from coxswain_gateway.stops import StopMatcher
from coxswain_gateway.text import Detokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new of a choice since it was last taken. Its tokens are `log.output[start:end]`; it ends once."""

    text: str
    start: int
    end: int
    finish: str | None


class Choice:
    """Listens to a generation and turns its tokens into text, synchronously, so that a stop is noticed at once."""

    __slots__ = ("_detokenizer", "_include_stop", "_read", "_stop", "_stops", "_taken", "_text", "_told", "_wake",
                 "finish", "generation", "index", "stop_reason", "text")  # fmt: skip

    def __init__(
        self,
        index: int,
        *,
        detokenizer: Detokenizer,
        stops: Sequence[str],
        include_stop: bool,
        wake: Callable[[], None],
        stop: Callable[[Generation], None],
    ) -> None:
        self.index = index
        self.generation: Generation
        self.finish: str | None = None
        """OpenAI's finish reason; None while it runs, and for ever if it fails."""
        self.stop_reason: str | int | None = None
        """The stop string or stop id that ended it, as vLLM reports it."""
        self.text = ""
        """Everything shown so far, for answers that are not streamed."""
        self._detokenizer = detokenizer
        self._stops = StopMatcher(stops, include=include_stop)
        self._include_stop = include_stop
        self._wake = wake
        self._stop = stop
        self._read = 0
        self._taken = 0
        self._text = ""
        self._told = False

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.finish is not None or self.generation.over

    @property
    def tokens(self) -> int:
        """Output tokens that count: up to the one that completed a stop string."""
        return self._read

    def advanced(self) -> None:
        """See Listener."""
        if self.finish is None:
            self._read_log()
        self._wake()

    def take(self) -> Piece:
        """What is new since the last time; perhaps nothing."""
        piece = Piece(self._text, self._taken, self._read, None if self._told else self.finish)
        self._taken, self._text, self._told = self._read, "", self.finish is not None
        self.text += piece.text
        return piece

    def _read_log(self) -> None:
        log = self.generation.log
        end, finish = len(log.output), log.finish
        hidden = finish is not None and finish.stop_id is not None and not self._include_stop
        shown = end - 1 if hidden else end
        while self._read < end:
            token = log.output[self._read]
            self._read += 1
            if self._read <= shown and self._show(self._detokenizer.feed(token)):
                self._stop(self.generation)
                return
        if finish is not None:
            self._close(finish.reason, finish.stop_id)

    def _show(self, text: str) -> bool:
        """Add text; whether it completed a stop string. Before `min_tokens` none is looked for."""
        if not text:
            return False
        if self._read <= self.generation.log.sampling.min_tokens:
            self._text += text
            return False
        self._text += self._stops.feed(text)
        if self._stops.matched is None:
            return False
        self.finish, self.stop_reason = "stop", self._stops.matched
        return True

    def _close(self, reason: str, stop_id: int | None) -> None:
        if not self._show(self._detokenizer.flush()):
            self._text += self._stops.flush()
            self.finish = reason
            self.stop_reason = stop_id if stop_id in self.generation.log.sampling.stop_ids else None
