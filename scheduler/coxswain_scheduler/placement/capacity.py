"""What one engine can take of one bucket: the highest rate at which its predicted times meet the objectives.

Steady state by Little's law. While n sequences decode, a step takes `decode(n)`; each sequence needs a step for every
token but the first; and for every sequence that leaves another one is prefilled, which holds the others up. Prompts
wait for each other as in a queue with one server and even service times (Pollaczek–Khinchine). All of it is a mean, as
the objectives are; requests count with the whole length of their bucket.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from coxswain_scheduler.costs.profiles import EngineProfile
from coxswain_scheduler.costs.transfer import Link, recompute_seconds
from coxswain_scheduler.interface import Objectives, Role
from coxswain_scheduler.placement.problem import Bucket

_STEPS = 30
"""Halvings of an interval: one part in 10⁹."""
_UNBOUNDED = 1e6
"""Requests per second of an engine that decodes answers of one token, which is none."""
FREE = Link(math.inf, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How an engine does with so many sequences decoding, in seconds and requests per second."""

    rate: float
    ttft: float
    inter_token: float

    def meets(self, objectives: Objectives) -> bool:
        """Whether both means are within the objectives."""
        return self.ttft <= objectives.ttft and self.inter_token <= objectives.inter_token


def capacity(
    profile: EngineProfile, bucket: Bucket, objectives: Objectives, *, role: Role = "Serve", link: Link = FREE
) -> float:
    """Requests per second; 0 where even one request alone takes too long, or does not fit.

    `link` is what a Prefill engine sends its KV over; the transfer counts towards the time to first token.
    """
    if role == "Prefill":
        return _prefill_rate(profile, bucket, objectives.ttft, link)
    tokens = profile.total_blocks * profile.block_size
    most = min(profile.max_num_seqs, tokens // (bucket.input_tokens + bucket.output_tokens))
    if role == "Decode" and bucket.output_tokens <= 1:
        return _UNBOUNDED
    pace = _decoding if role == "Decode" else _serving if bucket.output_tokens > 1 else _answering
    return _highest(lambda sequences: pace(profile, bucket, sequences), float(most), objectives)


def _highest(pace: Callable[[float], Pace], most: float, objectives: Objectives) -> float:
    """The rate at the largest number of sequences up to `most` that meets the objectives."""
    if most < 1 or not pace(0.0).meets(objectives):
        return 0.0
    low, high = 0.0, most
    if pace(high).meets(objectives):
        return pace(high).rate
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if pace(middle).meets(objectives) else (low, middle)
    return pace(low).rate


def _serving(profile: EngineProfile, bucket: Bucket, sequences: float) -> Pace:
    decode, prefill = _decode_seconds(profile, bucket, sequences), _prefill_seconds(profile, bucket)
    steps = bucket.output_tokens - 1
    gap = decode + sequences / steps * prefill
    rate = sequences / (steps * gap)
    # A prompt's steps carry the decoding sequences along, as far as there are any.
    carried = decode * min(sequences, 1.0)
    chunks = -(-bucket.input_tokens // profile.step_tokens)
    ttft = carried / 2 + _answered(rate, prefill + chunks * carried)
    return Pace(rate=rate, ttft=ttft, inter_token=gap)


def _decoding(profile: EngineProfile, bucket: Bucket, sequences: float) -> Pace:
    decode = _decode_seconds(profile, bucket, sequences)
    return Pace(rate=sequences / ((bucket.output_tokens - 1) * decode), ttft=0.0, inter_token=decode)


def _answering(profile: EngineProfile, bucket: Bucket, sequences: float) -> Pace:
    """Answers of one token: `sequences` of the most there may be stand for a share of the time."""
    prefill = _prefill_seconds(profile, bucket)
    rate = min(sequences, 1.0) / prefill
    return Pace(rate=rate, ttft=_answered(rate, prefill), inter_token=0.0)


def _prefill_rate(profile: EngineProfile, bucket: Bucket, ttft: float, link: Link) -> float:
    if bucket.input_tokens > profile.total_blocks * profile.block_size:
        return 0.0
    prefill = _prefill_seconds(profile, bucket)
    sent = link.seconds(bucket.input_tokens * profile.kv_bytes_per_token)
    patience = (ttft - sent - prefill) / prefill
    return 2 * patience / (1 + 2 * patience) / prefill if patience > 0 else 0.0


def _answered(rate: float, service: float) -> float:
    """Seconds until a prompt is through: those before it, and its own."""
    busy = rate * service
    return service * (1 + busy / (2 * (1 - busy))) if busy < 1 else math.inf


def _prefill_seconds(profile: EngineProfile, bucket: Bucket) -> float:
    return recompute_seconds(profile.timing, start=0, tokens=bucket.input_tokens, step_tokens=profile.step_tokens)


def _decode_seconds(profile: EngineProfile, bucket: Bucket, sequences: float) -> float:
    """A step with so many sequences, halfway through their answers."""
    whole = max(1, math.ceil(sequences))
    return profile.timing.decode_seconds(whole, whole * (bucket.input_tokens + bucket.output_tokens // 2), 1)
