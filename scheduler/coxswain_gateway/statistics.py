"""What a gateway counts. Plain numbers, because a token is counted in nanoseconds or not at all."""

from __future__ import annotations

from collections import Counter

from coxswain_scheduler.latency import LatencyHistogram


class Statistics:
    """Counters and latencies since the process started; times in seconds."""

    def __init__(self) -> None:
        self.accepted = 0
        self.ended: Counter[str] = Counter()
        """Accepted sequences by how they ended: stop, length, client_gone, lost, error."""
        self.refused: Counter[str] = Counter()
        """Requests turned away, by HTTP status."""
        self.lost = 0
        self.replays: Counter[str] = Counter()
        """Re-submitted sequences by cause: lost, closed, leaving, gap, abort, error, superseded."""
        self.inexact_replays = 0
        self.replayed_tokens = 0
        self.stale_chunks = 0
        self.heartbeat_losses = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.loop_lag = 0.0
        """Seconds by which this process's own event loop was late, in all."""
        self.ttft = LatencyHistogram()
        self.inter_token = LatencyHistogram()
        self.duration = LatencyHistogram()
        self.gap = LatencyHistogram()
        """From the last token before a replay to the first after it."""
