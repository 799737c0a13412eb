"""From a request's fields to `Sampling`, each checked, with the seed filled in."""

from __future__ import annotations

import math
from secrets import randbits

from coxswain_gateway.api.errors import Invalid
from coxswain_gateway.api.requests import ChatRequest, CommonRequest, CompletionRequest
from coxswain_protocol.messages import Sampling

SEED_BITS = 63
MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_STOP_LENGTH = 1024
MAX_CHOICES = 128
_DEFAULT_COMPLETION_TOKENS = 16


def check(ask: CommonRequest) -> None:
    """Raises Invalid for the first field that is out of range."""
    _within(ask.n, "n", 1, MAX_CHOICES)
    _within(ask.max_tokens, "max_tokens", 1, math.inf)
    _within(ask.min_tokens, "min_tokens", 0, math.inf)
    _within(ask.temperature, "temperature", 0, 100)
    _within(ask.top_p, "top_p", 0, 1, above=True)
    _within(ask.top_k, "top_k", -1, 2**31 - 1)
    _within(ask.min_p, "min_p", 0, 1)
    _within(ask.presence_penalty, "presence_penalty", -2, 2)
    _within(ask.frequency_penalty, "frequency_penalty", -2, 2)
    _within(ask.repetition_penalty, "repetition_penalty", 0, 100, above=True)
    _within(ask.seed, "seed", -(2**63), 2**63 - 1)
    _within(ask.priority, "priority", -(2**63), 2**63 - 1)
    if isinstance(ask, ChatRequest):
        _within(ask.max_completion_tokens, "max_completion_tokens", 1, math.inf)
        _within(ask.top_logprobs, "top_logprobs", 0, MAX_LOGPROBS)
        if ask.top_logprobs and not ask.logprobs:
            raise Invalid("top_logprobs needs logprobs to be true", param="top_logprobs")
    elif isinstance(ask, CompletionRequest):
        _within(ask.logprobs, "logprobs", 0, MAX_LOGPROBS)
    _check_stops(ask.stops)


def sampling(ask: CommonRequest, *, prompt_tokens: int, max_model_len: int, vocab_size: int) -> Sampling:
    """What the engine is told. Raises Invalid when prompt and output do not fit, or a stop id is no token."""
    max_tokens = _max_tokens(ask, prompt_tokens=prompt_tokens, max_model_len=max_model_len)
    if (ask.min_tokens or 0) > max_tokens:
        raise Invalid(f"min_tokens: {ask.min_tokens} is more than max_tokens, {max_tokens}", param="min_tokens")
    stop_ids = tuple(ask.stop_token_ids or ())
    if not all(0 <= token < vocab_size for token in stop_ids):
        raise Invalid(f"stop_token_ids: ids must be between 0 and {vocab_size - 1}", param="stop_token_ids")
    return Sampling(
        seed=randbits(SEED_BITS) if ask.seed is None else ask.seed & (2**SEED_BITS - 1),
        temperature=_or(ask.temperature, 1.0),
        top_p=_or(ask.top_p, 1.0),
        top_k=max(0, ask.top_k or 0),
        min_p=_or(ask.min_p, 0.0),
        max_tokens=max_tokens,
        min_tokens=ask.min_tokens or 0,
        stop_ids=stop_ids,
        ignore_eos=bool(ask.ignore_eos),
        presence_penalty=_or(ask.presence_penalty, 0.0),
        frequency_penalty=_or(ask.frequency_penalty, 0.0),
        repetition_penalty=_or(ask.repetition_penalty, 1.0),
        logprobs=_logprobs(ask),
    )


def _max_tokens(ask: CommonRequest, *, prompt_tokens: int, max_model_len: int) -> int:
    room = max_model_len - prompt_tokens
    asked, field = ask.max_tokens, "max_tokens"
    if isinstance(ask, ChatRequest) and ask.max_completion_tokens is not None:
        asked, field = ask.max_completion_tokens, "max_completion_tokens"
    if asked is None and isinstance(ask, CompletionRequest):
        asked = min(_DEFAULT_COMPLETION_TOKENS, room)
    if room < 1 or (asked or 0) > room:
        raise Invalid(
            f"This model's maximum context length is {max_model_len} tokens. However, you requested "
            f"{prompt_tokens + (asked or 1)} tokens ({prompt_tokens} in the prompt, {asked or 1} for the completion). "
            f"Reduce the length of the prompt or {field}.",
            param="prompt" if room < 1 else field,
            code="context_length_exceeded",
        )
    return room if asked is None else asked


def _logprobs(ask: CommonRequest) -> int | None:
    if isinstance(ask, ChatRequest):
        return (ask.top_logprobs or 0) if ask.logprobs else None
    return ask.logprobs if isinstance(ask, CompletionRequest) else None


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise Invalid(f"stop: at most {MAX_STOPS} strings, not {len(stops)}", param="stop")
    if any(not 0 < len(stop) <= MAX_STOP_LENGTH for stop in stops):
        raise Invalid(f"stop: strings must have 1 to {MAX_STOP_LENGTH} characters", param="stop")


def _within(value: float | None, field: str, low: float, high: float, *, above: bool = False) -> None:
    if value is None:
        return
    if not low <= value <= high or (above and value == low):
        limit = f"{'above' if above else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
        raise Invalid(f"{field} must be {limit}", param=field)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
