"""KV on its way between two engines: how long it takes, what of it is felt, and when computing it again is quicker."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coxswain_scheduler.costs.timing import Timing, Work

LINKS = {
    "nvlink-h100": 360e9,
    "nvlink-a100": 240e9,
    "pcie5": 50e9,
    "infiniband-400g": 45e9,
    "pcie4": 25e9,
    "ethernet-100g": 11e9,
    "ethernet-25g": 2.8e9,
}
"""Bytes per second that KV attains, by kind of link: NVLink of the H100 as APEX+ measured it between two GPUs (256 MiB
in 738 us), the others at 80-90 % of their nominal rate."""


@dataclass(frozen=True, slots=True)
class Link:
    """A way between two engines."""

    bytes_per_second: float
    round_trip_seconds: float = 1e-4
    """Paid once per message that must be answered."""

    def seconds(self, size: float, *, messages: int = 1) -> float:
        """Seconds until `size` bytes have arrived; none over an infinite link."""
        if size <= 0 or math.isinf(self.bytes_per_second):
            return 0.0
        return size / self.bytes_per_second + messages * self.round_trip_seconds


def exposed_seconds(link: Link, size: float, *, layers: int, prefill_seconds: float) -> float:
    """Seconds of the transfer still to come when a prefill ends whose layers each send their KV as they finish.

    The last layer's part cannot be hidden; neither can what is slower than the prefill.
    """
    whole = link.seconds(size)
    return max(link.seconds(size / layers), whole - prefill_seconds * (layers - 1) / layers)


def recompute_seconds(timing: Timing, *, start: int, tokens: int, step_tokens: int) -> float:
    """Seconds to compute `tokens` prompt tokens from position `start` on an engine of its own, in its steps."""
    total = 0.0
    for begin in range(start, start + tokens, step_tokens):
        count = min(step_tokens, start + tokens - begin)
        total += timing.seconds(Work(count, count * begin + count * (count + 1) // 2))
    return total


def moving_pays(
    timing: Timing, link: Link, *, start: int, tokens: int, kv_bytes_per_token: float, step_tokens: int
) -> bool:
    """Whether KV of `tokens` tokens from position `start` is sooner there by the link than computed again."""
    computing = recompute_seconds(timing, start=start, tokens=tokens, step_tokens=step_tokens)
    return link.seconds(tokens * kv_bytes_per_token) < computing


def break_even_bandwidth(timing: Timing, *, tokens: int, kv_bytes_per_token: float, step_tokens: int) -> float:
    """Bytes per second above which a prompt's KV is better moved than computed again."""
    return tokens * kv_bytes_per_token / recompute_seconds(timing, start=0, tokens=tokens, step_tokens=step_tokens)


@dataclass(frozen=True, slots=True)
class Migration:
    """A live move: copies while the sequence decodes on, then a pause for what is left."""

    stages: int
    copying_seconds: float
    """While the sequence goes on."""
    paused_seconds: float
    """While it does not."""


def migration(
    link: Link, *, context: int, kv_bytes_per_token: float, step_seconds: float, block_size: int, max_stages: int = 8
) -> Migration | None:
    """Plan a live move in the stages of Llumnix (OSDI'24): each sends what was written during the one before.

    The pause begins when at most one block is left. None where new KV is written faster than it is sent, or where
    `max_stages` do not suffice: then the sequence must pause for the whole, or be computed again.
    """
    left, copying = float(context), 0.0
    for stage in range(1, max_stages + 1):
        if left <= block_size:
            return Migration(stage, copying, link.seconds(left * kv_bytes_per_token))
        seconds = link.seconds(left * kv_bytes_per_token)
        copying += seconds
        left = seconds / step_seconds
    return None
