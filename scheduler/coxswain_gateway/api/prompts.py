"""From what a client sent to token ids: chats rendered, texts tokenised, ids checked."""

from __future__ import annotations

from collections.abc import Sequence

from coxswain_gateway.api.errors import Invalid
from coxswain_gateway.api.requests import ChatRequest, CompletionRequest, messages_for_template
from coxswain_gateway.template import TemplateError
from coxswain_gateway.texts import Texts
from coxswain_gateway.tokenizer import ModelText

MAX_PROMPTS = 256

Ids = tuple[int, ...]


async def chat_prompt(ask: ChatRequest, text: ModelText, texts: Texts) -> Ids:
    """The rendered conversation as token ids. Raises Invalid."""
    messages = messages_for_template(ask.messages)
    variables = dict(ask.chat_template_kwargs or {})
    variables["add_generation_prompt"] = ask.add_generation_prompt is not False
    characters = sum(len(message["content"] or "") for message in messages)

    def encode() -> Ids:
        return text.encode(text.render(messages, **variables), add_special_tokens=bool(ask.add_special_tokens))

    try:
        ids = await texts.work(characters, encode)
    except (TemplateError, ValueError) as error:
        raise Invalid(f"messages: {error}", param="messages") from None
    return _checked(ids, "messages")


async def completion_prompts(ask: CompletionRequest, text: ModelText, texts: Texts, *, vocab_size: int) -> list[Ids]:
    """Every prompt of the request as token ids. Raises Invalid."""
    given = ask.prompt
    if isinstance(given, str):
        prompts: Sequence[str | Sequence[int]] = [given]
    elif given and all(isinstance(item, int) for item in given):
        prompts = [[item for item in given if isinstance(item, int)]]
    else:
        prompts = [item for item in given if not isinstance(item, int)]
        if len(prompts) != len(given):
            raise Invalid("prompt: a list holds texts, or token ids, or lists of token ids", param="prompt")
    if not 0 < len(prompts) <= MAX_PROMPTS:
        raise Invalid(f"prompt: 1 to {MAX_PROMPTS} prompts, not {len(prompts)}", param="prompt")
    special = ask.add_special_tokens is not False
    return [await _ids(prompt, text, texts, special=special, vocab_size=vocab_size) for prompt in prompts]


async def _ids(prompt: str | Sequence[int], text: ModelText, texts: Texts, *, special: bool, vocab_size: int) -> Ids:
    if not isinstance(prompt, str):
        if not all(0 <= token < vocab_size for token in prompt):
            raise Invalid(f"prompt: token ids must be between 0 and {vocab_size - 1}", param="prompt")
        return _checked(tuple(prompt), "prompt")
    try:
        ids = await texts.work(len(prompt), lambda: text.encode(prompt, add_special_tokens=special))
    except ValueError as error:
        raise Invalid(f"prompt: {error}", param="prompt") from None
    return _checked(ids, "prompt")


def _checked(ids: Ids, field: str) -> Ids:
    if not ids:
        raise Invalid(f"{field}: it has no tokens; the model needs at least one", param=field)
    return ids
