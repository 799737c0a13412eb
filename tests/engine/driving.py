"""Drive an engine to the end of some requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coxswain_protocol.messages import Finish, Request, Sampling, TokenLogprob
from coxswain_workers.engine.interface import Engine

MOST_STEPS = 5000


@dataclass
class Result:
    """What a client would have seen of one request."""

    start: int | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None
    cached: int = 0


def request(id: str, prompt: Iterable[int], *, output: Iterable[int] = (), **sampling: Any) -> Request:  # noqa: A002
    """A request with greedy sampling unless told otherwise."""
    settings = {"seed": 0, "temperature": 0.0, "ignore_eos": True, **sampling}
    return Request(id, tuple(prompt), Sampling(**settings), tuple(output))


def complete(engine: Engine, *requests: Request) -> dict[str, Result]:
    """Submit the requests together and step until nothing is left to do."""
    for one in requests:
        engine.submit(one)
    results = {one.id: Result() for one in requests}
    for _ in range(MOST_STEPS):
        if not engine.has_work():
            return results
        for chunk in engine.step().chunks:
            result = results[chunk.id]
            assert result.finish is None, "a chunk after the last one"
            if result.start is None:
                result.start, result.cached = chunk.start, chunk.cached
            assert chunk.start == result.start + len(result.tokens)
            result.tokens += chunk.tokens
            result.logprobs += chunk.logprobs
            result.finish = chunk.finish
    raise AssertionError(f"requests unfinished after {MOST_STEPS} steps")
