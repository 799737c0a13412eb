"""The token log: all that is needed to continue a sequence anywhere.

What makes resuming exact is that nothing else is: prompt and output stay apart, the seed is set, noise is keyed by
position, and positions are absolute, so whatever arrives twice drops out and whatever is missing is noticed.
"""

from __future__ import annotations

from coxswain_protocol.messages import Chunk, Finish, Request, Sampling, TokenLogprob


class GapError(Exception):
    """A chunk begins beyond the end of the log: the replica skipped tokens and cannot be believed any more."""


class TokenLog:
    """Prompt, sampling and output so far of one sequence, across all the attempts at it."""

    __slots__ = ("attempt", "cached", "finish", "id", "logprobs", "output", "prompt", "sampling")

    def __init__(self, request_id: str, prompt: tuple[int, ...], sampling: Sampling) -> None:
        self.id = request_id
        self.prompt = prompt
        self.sampling = sampling
        self.output: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish: Finish | None = None
        self.cached: int | None = None
        """Prompt tokens that the first attempt found in a prefix cache; None before its first chunk."""
        self.attempt = 0

    @property
    def attempt_id(self) -> str:
        """Id of the current attempt on the wire."""
        return f"{self.id}#{self.attempt}"

    def next_attempt(self) -> Request:
        """What to submit to continue from here, under a new attempt id."""
        self.attempt += 1
        return Request(id=self.attempt_id, prompt=self.prompt, sampling=self.sampling, output=tuple(self.output))

    def append(self, chunk: Chunk) -> int:
        """Take a chunk of the current attempt; how many of its tokens were new. Raises GapError, changing nothing."""
        end = len(self.output)
        if chunk.start > end:
            raise GapError(f"a chunk starts at token {chunk.start} where the log has {end}")
        known = end - chunk.start
        fresh = chunk.tokens[known:] if known else chunk.tokens
        if self.sampling.logprobs is not None:
            if len(chunk.logprobs) != len(chunk.tokens):
                raise GapError(f"{len(chunk.logprobs)} log-probabilities came with {len(chunk.tokens)} tokens")
            self.logprobs += chunk.logprobs[known:]
        self.output += fresh
        if self.cached is None:
            self.cached = chunk.cached
        return len(fresh)

    @property
    def full(self) -> bool:
        """Every token asked for is there, whatever became of the last frame."""
        return len(self.output) >= self.sampling.max_tokens
