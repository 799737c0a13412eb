"""From a call's choices to OpenAI's JSON, streamed and whole, for chats and for completions."""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from coxswain_gateway.api.calls import Call
from coxswain_gateway.api.choices import Choice, Piece
from coxswain_gateway.api.responses import (
    Answer,
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatLogprobs,
    CompletionChoice,
    CompletionLogprobs,
    Delta,
    PromptDetails,
    TokenLogprobs,
    TopLogprob,
    Usage,
)
from coxswain_gateway.tokenizer import ModelText

DONE = b"data: [DONE]\n\n"
COMMENT = b": waiting for a replica\n\n"

_encode = msgspec.json.Encoder().encode


def event(answer: Answer) -> bytes:
    """One server-sent event."""
    return b"data: " + _encode(answer) + b"\n\n"


class Shape(Protocol):
    """How one kind of request is answered."""

    shows_tokens: bool
    """Tokens are news even when they bring no text yet."""

    def chunk(self, choice: Choice, piece: Piece) -> bytes:
        """The event that shows a piece of a stream."""

    def last(self) -> bytes:
        """The end of a stream: usage if it was asked for."""

    def whole(self) -> bytes:
        """The answer that is not streamed."""


class _Base:
    prefix: str

    def __init__(self, call: Call, *, model: str, token_ids: bool, include_usage: bool) -> None:
        self._call = call
        self._id = f"{self.prefix}-{call.request_id}"
        self._model = model
        self._token_ids = token_ids
        self.shows_tokens = token_ids or any(c.generation.log.sampling.logprobs is not None for c in call.choices)
        self._include_usage = include_usage
        self._begun = [False] * len(call.choices)

    def _usage(self) -> Usage:
        logs = [choice.generation.log for choice in self._call.choices]
        prompts = {id(log.prompt): log for log in reversed(logs)}.values()
        prompt, output = sum(len(log.prompt) for log in prompts), sum(choice.tokens for choice in self._call.choices)
        cached = sum(log.cached or 0 for log in prompts)
        return Usage(prompt, output, prompt + output, PromptDetails(cached))

    def _ids(self, choice: Choice, start: int, end: int) -> list[int] | UnsetType:
        return choice.generation.log.output[start:end] if self._token_ids else UNSET

    def _begin(self, choice: Choice) -> bool:
        """Whether this is the choice's first chunk."""
        first, self._begun[choice.index] = not self._begun[choice.index], True
        return first


class ChatShape(_Base):
    """`chat.completion` and its chunks."""

    prefix = "chatcmpl"

    def chunk(self, choice: Choice, piece: Piece) -> bytes:
        """See Shape."""
        first = self._begin(choice)
        shown = ChatChunkChoice(
            choice.index,
            Delta(role="assistant" if first else UNSET, content=piece.text if piece.text or first else UNSET),
            self._logprobs(choice, piece.start, piece.end),
            piece.finish,
            UNSET if piece.finish is None else choice.stop_reason,
            self._ids(choice, piece.start, piece.end),
        )
        return event(self._answer([shown], first=first))

    def last(self) -> bytes:
        """See Shape."""
        if not self._include_usage:
            return b""
        return event(Answer(self._id, "chat.completion.chunk", self._call.created, self._model, [], self._usage()))

    def whole(self) -> bytes:
        """See Shape."""
        choices = [
            ChatChoice(
                choice.index,
                AssistantMessage(choice.text),
                self._logprobs(choice, 0, choice.tokens),
                choice.finish,
                choice.stop_reason,
                self._ids(choice, 0, choice.tokens),
            )
            for choice in self._call.choices
        ]
        prompt = self._call.choices[0].generation.log.prompt if self._token_ids else UNSET
        return _encode(
            Answer(self._id, "chat.completion", self._call.created, self._model, choices, self._usage(), prompt)
        )

    def _answer(self, choices: list[ChatChunkChoice], *, first: bool) -> Answer:
        usage = None if self._include_usage else UNSET
        prompt = self._call.choices[0].generation.log.prompt if first and self._token_ids else UNSET
        return Answer(self._id, "chat.completion.chunk", self._call.created, self._model, choices, usage, prompt)

    def _logprobs(self, choice: Choice, start: int, end: int) -> ChatLogprobs | None:
        log, text = choice.generation.log, self._call.text
        if log.sampling.logprobs is None:
            return None
        return ChatLogprobs(
            [
                TokenLogprobs(
                    *_named(text, log.output[i], log.logprobs[i].chosen),
                    top_logprobs=[TopLogprob(*_named(text, token, value)) for token, value in log.logprobs[i].top],
                )
                for i in range(start, end)
            ]
        )


class CompletionShape(_Base):
    """`text_completion`, whose chunks have the same shape as the whole."""

    prefix = "cmpl"

    def __init__(self, call: Call, *, model: str, token_ids: bool, include_usage: bool) -> None:
        super().__init__(call, model=model, token_ids=token_ids, include_usage=include_usage)
        self._offsets = [0] * len(call.choices)

    def chunk(self, choice: Choice, piece: Piece) -> bytes:
        """See Shape."""
        shown = self._choice(choice, piece.text, piece.start, piece.end, piece.finish, first=self._begin(choice))
        usage = None if self._include_usage else UNSET
        return event(self._answer([shown], usage))

    def last(self) -> bytes:
        """See Shape."""
        return event(self._answer([], self._usage())) if self._include_usage else b""

    def whole(self) -> bytes:
        """See Shape."""
        choices = [self._choice(c, c.text, 0, c.tokens, c.finish, first=True) for c in self._call.choices]
        return _encode(self._answer(choices, self._usage()))

    def _answer(self, choices: list[CompletionChoice], usage: Usage | UnsetType | None) -> Answer:
        return Answer(self._id, "text_completion", self._call.created, self._model, choices, usage)

    def _choice(
        self, choice: Choice, text: str, start: int, end: int, finish: str | None, *, first: bool
    ) -> CompletionChoice:
        prompt = choice.generation.log.prompt if first and self._token_ids else UNSET
        return CompletionChoice(
            choice.index,
            text,
            self._logprobs(choice, start, end),
            finish,
            UNSET if finish is None else choice.stop_reason,
            prompt,
            self._ids(choice, start, end),
        )

    def _logprobs(self, choice: Choice, start: int, end: int) -> CompletionLogprobs | None:
        log, text = choice.generation.log, self._call.text
        if log.sampling.logprobs is None:
            return None
        tokens = [_string(text, log.output[i]) for i in range(start, end)]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[choice.index])
            self._offsets[choice.index] += len(token)
        top = [{_string(text, token): value for token, value in log.logprobs[i].top} for i in range(start, end)]
        chosen = [log.logprobs[i].chosen for i in range(start, end)]
        return CompletionLogprobs(tokens, chosen, top if log.sampling.logprobs else None, offsets)


def _string(text: ModelText, token: int) -> str:
    """A token as completions name it: part of a character as OpenAI spells it, `bytes:\\xe2`, so that keys differ."""
    data = text.token_bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _named(text: ModelText, token: int, logprob: float) -> tuple[str, float, list[int]]:
    data = text.token_bytes(token)
    return data.decode(errors="replace"), logprob, list(data)
