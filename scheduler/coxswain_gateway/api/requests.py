"""What clients may ask for: OpenAI's fields, vLLM's extensions, and a clear no to what is not supported.

Unknown fields are ignored, as vLLM does. Known fields that would change the answer and are not supported are refused,
because an answer that silently lacks what was asked for is worse than none.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from coxswain_gateway.api.errors import Invalid

Ask = TypeVar("Ask", bound="CommonRequest")


class StreamOptions(msgspec.Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None


class CommonRequest(msgspec.Struct, kw_only=True):
    """Fields that chats and completions share; None is the same as absent."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    priority: int | None = None
    """vLLM's: lower goes earlier, 0 is usual."""
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = None
    skip_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    add_special_tokens: bool | None = None
    best_of: int | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: Any = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    prompt_logprobs: int | None = None
    truncate_prompt_tokens: int | None = None
    use_beam_search: bool | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings, however they were given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(CommonRequest, kw_only=True):
    """Body of POST /v1/completions."""

    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class Part(msgspec.Struct, kw_only=True):
    """One part of a message's content."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, kw_only=True):
    """One message of a chat."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None


class ChatRequest(CommonRequest, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    modalities: list[str] | None = None
    audio: Any = None


def decode(body: bytes, kind: type[Ask]) -> Ask:
    """Read and check a body. Raises Invalid naming the field."""
    try:
        ask = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or None
        if field is None and "missing required field" in message:
            field = message.rsplit("`", 2)[1]
        raise Invalid(f"{field}: {message}" if field else message, param=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is not valid JSON: {error}", code="invalid_json") from None
    _refuse_unsupported(ask)
    return ask


def messages_for_template(messages: list[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates expect them: content as text. Raises Invalid for parts that are not text."""
    if not messages:
        raise Invalid("messages: there must be at least one", param="messages")
    return [
        {
            "role": message.role,
            "content": _content(message, number),
            "name": message.name,
            "reasoning_content": message.reasoning_content,
        }
        for number, message in enumerate(messages)
    ]


def _content(message: Message, number: int) -> str | None:
    if message.tool_calls:
        raise Invalid("messages: tool calls are not supported", param=f"messages[{number}].tool_calls")
    if not isinstance(message.content, list):
        return message.content
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise Invalid(
                f"messages: content of type {part.type!r} is not supported, only text",
                param=f"messages[{number}].content",
            )
    return "\n".join(part.text or "" for part in message.content)


def _refuse_unsupported(ask: CommonRequest) -> None:
    common = {
        "logit_bias": bool(ask.logit_bias),
        "response_format": (ask.response_format or {}).get("type", "text") != "text",
        "structured_outputs": bool(ask.structured_outputs),
        "guided_json": ask.guided_json is not None,
        "guided_regex": ask.guided_regex is not None,
        "guided_choice": ask.guided_choice is not None,
        "guided_grammar": ask.guided_grammar is not None,
        "prompt_logprobs": ask.prompt_logprobs is not None,
        "truncate_prompt_tokens": ask.truncate_prompt_tokens is not None,
        "use_beam_search": bool(ask.use_beam_search),
        "best_of": ask.best_of is not None and ask.best_of != (ask.n or 1),
    }
    own = _unsupported_chat(ask) if isinstance(ask, ChatRequest) else _unsupported_completion(ask)
    for field, refused in (common | own).items():
        if refused:
            raise Invalid(f"{field} is not supported by this release; leave it out", param=field, code="unsupported")


def _unsupported_chat(ask: ChatRequest) -> dict[str, bool]:
    return {
        "tools": bool(ask.tools) and ask.tool_choice != "none",
        "chat_template": ask.chat_template is not None,
        "continue_final_message": bool(ask.continue_final_message),
        "modalities": ask.modalities not in (None, ["text"]),
        "audio": ask.audio is not None,
    }


def _unsupported_completion(ask: CommonRequest) -> dict[str, bool]:
    assert isinstance(ask, CompletionRequest)
    return {"echo": bool(ask.echo), "suffix": bool(ask.suffix)}
