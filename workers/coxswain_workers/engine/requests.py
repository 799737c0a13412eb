"""A request inside the engine: what is wrong with it, and when it is finished."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from coxswain_protocol.messages import EngineInfo, Finish, Request, Sampling
from coxswain_scheduler.batching import TokenSequence
from coxswain_workers.engine.sampler import Choice


@dataclass(slots=True)
class Running:
    """A request and its sequence."""

    request: Request
    sequence: TokenSequence
    first: bool = True
    """Whether no chunk was sent yet."""

    def choice(self, info: EngineInfo) -> Choice:
        """What the sampler needs for the next token."""
        return Choice(self.request.sampling, self.sequence.tokens, self.sequence.prompt_len, info.eos_ids)

    def finish(self, info: EngineInfo) -> Finish | None:
        """Why it is finished after its last output token; None when it goes on."""
        tokens, sampling = self.sequence.tokens, self.request.sampling
        produced = len(tokens) - self.sequence.prompt_len
        if produced and produced >= sampling.min_tokens and _ends(tokens[-1], sampling, info):
            return Finish("stop", stop_id=tokens[-1])
        if produced >= sampling.max_tokens or len(tokens) >= info.max_model_len:
            return Finish("length")
        return None


def _ends(token: int, sampling: Sampling, info: EngineInfo) -> bool:
    return token in sampling.stop_ids or (token in info.eos_ids and not sampling.ignore_eos)


def problem(request: Request, info: EngineInfo) -> str | None:
    """What is wrong with a request, in a sentence for the client; None when it can run."""
    return next(_problems(request, info), None)


def _problems(request: Request, info: EngineInfo) -> Iterator[str]:
    sampling = request.sampling
    length = len(request.prompt)
    if not length:
        yield "the prompt is empty; send at least one token"
    if length >= info.max_model_len:
        yield f"the prompt has {length} tokens; the context of {info.max_model_len} takes one less than that at most"
    if any(not 0 <= token < info.vocab_size for token in (*request.prompt, *request.output)):
        yield f"a token id is outside the vocabulary of {info.vocab_size}"
    if any(not 0 <= token < info.vocab_size for token in sampling.stop_ids):
        yield f"a stop token id is outside the vocabulary of {info.vocab_size}"
    for name, low, high in RANGES:
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:
            yield f"{name} is {value}; it must be from {low} to {high}"
    if not sampling.top_p > 0 or not sampling.repetition_penalty > 0:
        yield "top_p and repetition_penalty must be above 0"


RANGES = (
    ("temperature", 0.0, 100.0),
    ("top_p", 0.0, 1.0),
    ("top_k", 0, math.inf),
    ("min_p", 0.0, 1.0),
    ("max_tokens", 1, math.inf),
    ("min_tokens", 0, math.inf),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("repetition_penalty", 0.0, 100.0),
    ("logprobs", 0, math.inf),
)
