"""Chooses tokens from logits. It has no state: a choice depends on the logits, the tokens so far and the seed only.

Order, as in vLLM: penalties and `min_tokens`; log-probabilities are taken here; temperature; min_p, top_k, top_p;
one token by inverse transform over ids in ascending order, its random number keyed by (seed, position).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coxswain_protocol.messages import Sampling, TokenLogprob
from coxswain_workers.engine.noise import uniform

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Choice:
    """What there is to know when choosing the next token of one sequence."""

    sampling: Sampling
    tokens: list[int]
    """Prompt and output so far."""
    prompt_len: int
    eos_ids: tuple[int, ...]

    @property
    def output_len(self) -> int:
        """Output tokens so far."""
        return len(self.tokens) - self.prompt_len


def sample(logits: Floats, choices: Sequence[Choice]) -> tuple[list[int], list[TokenLogprob | None]]:
    """A token, and its log-probability where asked for, from each row of logits [choices, vocab]; rows are overwritten.

    A greedy row takes its highest logit, and the lowest id on a tie.
    """
    for row, choice in zip(logits, choices, strict=True):
        _penalise(row, choice)
        _forbid(row, choice)
    tokens = logits.argmax(axis=1)
    drawn = [index for index, choice in enumerate(choices) if choice.sampling.temperature > 0]
    if drawn:
        tokens[drawn] = _draw(logits[drawn], [choices[index] for index in drawn])
    chosen = tokens.tolist()
    return chosen, [
        None if choice.sampling.logprobs is None else _logprob(row, token, choice.sampling.logprobs)
        for row, token, choice in zip(logits, chosen, choices, strict=True)
    ]


def _penalise(row: Floats, choice: Choice) -> None:
    """Repetition penalty over prompt and output (Keskar et al., 2019), presence and frequency over the output."""
    sampling = choice.sampling
    if sampling.repetition_penalty != 1.0:
        seen = np.unique(choice.tokens)
        values = row[seen]
        penalty = np.float32(sampling.repetition_penalty)
        row[seen] = np.where(values > 0, values / penalty, values * penalty)
    if (sampling.presence_penalty or sampling.frequency_penalty) and choice.output_len:
        seen, counts = np.unique(choice.tokens[choice.prompt_len :], return_counts=True)
        row[seen] -= (sampling.presence_penalty + sampling.frequency_penalty * counts).astype(np.float32)


def _forbid(row: Floats, choice: Choice) -> None:
    """No end before `min_tokens`."""
    if choice.output_len < choice.sampling.min_tokens:
        ends = [token for token in (*choice.eos_ids, *choice.sampling.stop_ids) if token < row.shape[0]]
        row[ends] = -np.inf


def _draw(logits: Floats, choices: Sequence[Choice]) -> NDArray[np.intp]:
    """One token per row, by temperature, truncation and noise."""
    temperature = np.array([choice.sampling.temperature for choice in choices], dtype=np.float32)
    with np.errstate(over="ignore"):
        scaled = (logits - logits.max(axis=1, keepdims=True)) / temperature[:, None]
    weights = np.exp(scaled)
    cut = [index for index, choice in enumerate(choices) if _truncates(choice.sampling)]
    if cut:
        weights[cut] = _truncate(weights[cut], [choices[index].sampling for index in cut])
    cumulative = weights.cumsum(axis=1, dtype=np.float64)
    noise = uniform([choice.sampling.seed for choice in choices], [len(choice.tokens) for choice in choices])
    beyond: NDArray[np.bool_] = cumulative > (noise * cumulative[:, -1])[:, None]
    first: NDArray[np.intp] = beyond.argmax(axis=1)
    return first


def _truncates(sampling: Sampling) -> bool:
    return sampling.top_p < 1.0 or sampling.top_k > 0 or sampling.min_p > 0.0


def _truncate(weights: Floats, samplings: Sequence[Sampling]) -> Floats:
    """Weights with those outside min_p, top_k and top_p (in this order, each of what the last left) set to 0.

    Tokens as likely as the last one kept are kept too, so that order among equals does not matter.
    """
    vocab = weights.shape[1]
    ranked = np.sort(weights, axis=1)[:, ::-1]
    rows = np.arange(len(samplings))
    floor = np.array([sampling.min_p for sampling in samplings], dtype=np.float32)
    limit = np.array([sampling.top_k or vocab for sampling in samplings])
    kept = np.minimum((ranked >= floor[:, None] * ranked[:, :1]).sum(axis=1), np.minimum(limit, vocab))
    cumulative = ranked.cumsum(axis=1, dtype=np.float64)
    mass = cumulative[rows, kept - 1] * np.array([sampling.top_p for sampling in samplings])
    kept = np.minimum(kept, (cumulative < mass[:, None]).sum(axis=1) + 1)
    return np.where(weights >= ranked[rows, kept - 1][:, None], weights, np.float32(0))


def _logprob(row: Floats, token: int, count: int) -> TokenLogprob:
    wide = row.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return TokenLogprob(chosen=float(wide[token]), top=_best(wide, count))


def _best(values: NDArray[np.float64], count: int) -> tuple[tuple[int, float], ...]:
    """The `count` highest, best first, lower ids first among equals."""
    count = min(count, values.shape[0])
    if count == 0:
        return ()
    candidates = np.flatnonzero(values >= np.partition(values, -count)[-count])
    order = candidates[np.argsort(-values[candidates], kind="stable")][:count]
    return tuple((int(token), float(values[token])) for token in order if np.isfinite(values[token]))
