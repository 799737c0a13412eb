"""The requests that run in the engine: which gateway each is for, and how long its tokens took."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coxswain_protocol.messages import Chunk, Request
from coxswain_workers.replica.link import GatewayLink
from coxswain_workers.replica.metrics import EngineMetrics

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    link: GatewayLink
    prompt_tokens: int
    submitted_at: float
    token_at: float | None = None
    tokens: int = 0


class Requests:
    """Those submitted and not ended, by id, also in the `requests` of their link. `now` is in the link's seconds."""

    def __init__(self, *, metrics: EngineMetrics) -> None:
        self._metrics = metrics
        self._running: dict[str, _Running] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._running

    def __len__(self) -> int:
        return len(self._running)

    def add(self, request: Request, link: GatewayLink, now: float) -> None:
        """One more, for the gateway at the end of `link`."""
        self._running[request.id] = _Running(link, len(request.prompt) + len(request.output), now)
        link.requests.add(request.id)

    def progressed(self, chunk: Chunk, now: float) -> GatewayLink | None:
        """What the engine made of one, perhaps its end. Returns who is to have it; None when it runs no more."""
        running = self._running.get(chunk.id)
        if running is None:
            return None
        if chunk.tokens:
            self._measure(running, chunk, now)
        if chunk.finish is not None:
            self.remove(chunk.id, chunk.finish.reason, now)
        return running.link

    def remove(self, request_id: str, reason: str, now: float) -> None:
        """It has ended. Raises KeyError when it does not run."""
        running = self._running.pop(request_id)
        running.link.requests.discard(request_id)
        self._metrics.finished(reason, now - running.submitted_at)
        log.debug("finished: %s", reason, extra={"request_id": request_id, "tokens": running.tokens})

    def _measure(self, running: _Running, chunk: Chunk, now: float) -> None:
        if running.token_at is None:
            waited = now - running.submitted_at
            self._metrics.first_token(waited, prompt_tokens=running.prompt_tokens, cached=chunk.cached)
        else:
            self._metrics.next_token(now - running.token_at)
        running.token_at = now
        running.tokens += len(chunk.tokens)
