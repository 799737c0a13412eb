"""Whole answers, asked for with the `openai` client."""

from __future__ import annotations

from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion

from tests.gateway.conftest import MODEL, Running


async def complete(gateway: Running, **fields: Any) -> Completion:
    asked: dict[str, Any] = {"model": MODEL, "prompt": [5, 6, 7], "seed": 3} | fields
    answer = await gateway.openai.completions.create(**asked)
    assert isinstance(answer, Completion)
    return answer


async def chat(gateway: Running, **fields: Any) -> ChatCompletion:
    messages = [{"role": "user", "content": "hello"}]
    asked: dict[str, Any] = {"model": MODEL, "messages": messages, "seed": 1, "max_tokens": 10} | fields
    answer = await gateway.openai.chat.completions.create(**asked)
    assert isinstance(answer, ChatCompletion)
    return answer


def ids(choice: Any) -> list[int]:
    found: list[int] = choice.model_extra["token_ids"]
    return found
