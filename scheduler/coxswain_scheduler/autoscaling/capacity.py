"""How many sequences an engine carries within the objectives, by the cost model alone.

While a step writes one token for each of `n` sequences, `n / output tokens` new prompts have to be prefilled to keep
`n` of them going. So a token takes the decode step plus that share of the prompts' work, and the most sequences for
which this meets the inter-token objective, whose KV fits, and next to which prompts do not queue beyond the TTFT
objective, is what one engine carries. By Little's law a load is a number of sequences too, so load over capacity is a
count of engines. The autoscaler asks with what it has seen so far, the clairvoyant planner with what only hindsight
knows; both get the same answer to the same question.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from coxswain_scheduler.costs.timing import Timing, Work
from coxswain_scheduler.interface import Objectives

KV_USABLE = 0.95
"""Share of the KV pool that can be filled before sequences give way to each other."""

IDLE_ENOUGH = 0.2
"""Share of time spent on prompts below which more engines shorten no queue worth it: who is still late then is late by
the length of single prompts."""


class Mix(NamedTuple):
    """What one decoding sequence brings with it, on average."""

    context: float
    """KV tokens it attends to."""
    output_tokens: float
    """Tokens of an answer: one prompt has to be prefilled for so many tokens decoded."""
    prompt_tokens: float
    prompt_pairs: float
    """Query-key pairs of a prompt: the mean of `tokens * (tokens + 1) / 2`."""


class Capacity(NamedTuple):
    """What one engine carries at most."""

    sequences: float
    """In flight; 0 when even one is too many."""
    token_seconds: float
    """Mean seconds between two tokens of a sequence at that load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineShape:
    """One engine: its cost model and its limits."""

    timing: Timing
    kv_tokens: int
    max_num_seqs: int
    step_tokens: int
    """Tokens computed in one step at most."""
    accelerators: int = 1
    """Accelerators that one engine takes."""
    usable: float = 0.9
    """Share of what it carries of evenly flowing work that it carries of work that comes in bursts."""


def serving(shape: EngineShape, mix: Mix, objectives: Objectives, *, attainment: float = 0.99) -> Capacity:
    """What an engine carries that prefills and decodes."""

    def holds(sequences: int) -> bool:
        token = token_seconds(shape, mix, sequences)
        busy = 1.0 - decode_step(shape, mix, sequences) / token
        late = busy > IDLE_ENOUGH and waiting_seconds(shape, mix, busy, attainment, sequences) > objectives.ttft
        return token <= objectives.inter_token and not late

    return _usable(shape, mix, _most(_resident(shape, mix), holds), token_seconds)


def decoding(shape: EngineShape, mix: Mix, objectives: Objectives) -> Capacity:
    """What an engine carries that decodes while others prefill for it."""
    most = _most(_resident(shape, mix), lambda n: decode_step(shape, mix, n) <= objectives.inter_token)
    return _usable(shape, mix, most, decode_step)


def prefilling(shape: EngineShape, mix: Mix, objectives: Objectives, *, attainment: float = 0.99) -> float:
    """Prompts per second that one engine prefills, and does nothing else, with the `attainment` share of them in time;
    0 when a prompt alone is too slow."""
    seconds = prompt_seconds(shape, mix, 0)
    low, high = IDLE_ENOUGH, 0.99
    if waiting_seconds(shape, mix, 0.0, attainment, 0) > objectives.ttft:
        return 0.0
    for _ in range(20):
        middle = (low + high) / 2
        if waiting_seconds(shape, mix, middle, attainment, 0) <= objectives.ttft:
            low = middle
        else:
            high = middle
    return low / seconds


def token_seconds(shape: EngineShape, mix: Mix, sequences: int) -> float:
    """Mean seconds between two tokens on an engine that serves `sequences` sequences and their successors' prompts."""
    prompts = sequences / max(1.0, mix.output_tokens)
    return decode_step(shape, mix, sequences) + prompts * prompt_seconds(shape, mix, sequences)


def decode_step(shape: EngineShape, mix: Mix, sequences: int) -> float:
    """Seconds of a step that decodes `sequences` sequences of the mix."""
    return shape.timing.seconds(Work(decodes=sequences, context=round(sequences * mix.context)))


def prompt_seconds(shape: EngineShape, mix: Mix, sequences: int) -> float:
    """Seconds that the mean prompt adds to steps that decode `sequences` sequences anyway."""
    chunks = max(1, math.ceil(mix.prompt_tokens / max(1, shape.step_tokens - sequences)))
    tokens, pairs = round(mix.prompt_tokens / chunks), round(mix.prompt_pairs / chunks)
    context = round(sequences * mix.context)
    mixed = shape.timing.seconds(Work(tokens, pairs, sequences, context))
    if not sequences:
        return chunks * mixed
    return chunks * max(0.0, mixed - shape.timing.seconds(Work(decodes=sequences, context=context)))


def waiting_seconds(shape: EngineShape, mix: Mix, busy: float, attainment: float, sequences: int) -> float:
    """Seconds from arrival to first token that the `attainment` share of mean prompts stays below, when prompts keep
    the engine `busy` for that share of time: M/G/1 with an exponential tail (Kleinrock, Queueing Systems vol. 1).

    The second moment of the service time comes from `prompt_pairs`, half of the mean square of the tokens.
    """
    own = prompt_seconds(shape, mix, sequences) + decode_step(shape, mix, sequences) * (sequences > 0)
    if busy <= 1.0 - attainment:
        return own
    if busy >= 1.0:
        return math.inf
    spread = max(1.0, (2 * mix.prompt_pairs - mix.prompt_tokens) / max(1.0, mix.prompt_tokens) ** 2)
    residual = prompt_seconds(shape, mix, sequences) * spread / 2
    return own + residual / (1.0 - busy) * math.log(busy / (1.0 - attainment))


def _usable(shape: EngineShape, mix: Mix, most: int, seconds: Callable[[EngineShape, Mix, int], float]) -> Capacity:
    sequences = most * shape.usable
    return Capacity(sequences, seconds(shape, mix, max(1, round(sequences))))


def _resident(shape: EngineShape, mix: Mix) -> int:
    """Sequences whose KV fits."""
    fitting = int(KV_USABLE * shape.kv_tokens / max(1.0, mix.context))
    return min(shape.max_num_seqs, fitting)


def _most(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to `limit` that holds, where every smaller one does too."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
