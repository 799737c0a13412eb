"""The shapes of answers: OpenAI's objects, with vLLM's token ids where asked for. Absent is absent, null is null."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class PromptDetails(Struct):
    """Where the prompt's tokens came from."""

    cached_tokens: int


class Usage(Struct):
    """Tokens of a request, all choices together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class TopLogprob(Struct):
    """One token with its natural-log probability."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(Struct):
    """The token chosen at one position, and its best alternatives."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    """`logprobs` of a chat."""

    content: list[TokenLogprobs]


class CompletionLogprobs(Struct):
    """`logprobs` of a completion: parallel lists over its tokens."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class Delta(Struct):
    """What a streamed chat adds."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class AssistantMessage(Struct):
    """The answer of a chat."""

    content: str
    role: str = "assistant"


class ChatChunkChoice(Struct):
    """One choice in a chunk of a chat."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: str | int | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET


class ChatChoice(Struct):
    """One choice of a chat."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: str | int | None
    token_ids: list[int] | UnsetType = UNSET


class CompletionChoice(Struct):
    """One choice of a completion, whole or in a chunk."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: str | int | UnsetType | None = UNSET
    prompt_token_ids: tuple[int, ...] | UnsetType = UNSET
    token_ids: list[int] | UnsetType = UNSET


class Answer(Struct):
    """A whole answer, or one chunk of a stream; `object` says which."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChunkChoice] | list[ChatChoice] | list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
    prompt_token_ids: tuple[int, ...] | UnsetType = UNSET
