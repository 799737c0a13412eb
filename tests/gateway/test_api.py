"""The OpenAI API as the `openai` client sees it."""

from __future__ import annotations

from coxswain_protocol.messages import EngineInfo
from tests.gateway.conftest import MODEL, Running
from tests.gateway.scripted import expected


async def test_a_completion(gateway: Running, info: EngineInfo) -> None:
    answer = await gateway.openai.completions.create(
        model=MODEL, prompt=[5, 6, 7], max_tokens=12, seed=3, extra_body={"return_token_ids": True}
    )
    choice = answer.choices[0]
    assert choice.model_extra is not None
    assert choice.model_extra["token_ids"] == expected((5, 6, 7), seed=3, tokens=12, vocab_size=info.vocab_size)
    assert choice.model_extra["prompt_token_ids"] == [5, 6, 7]
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 12, 15)


async def test_a_streamed_chat(gateway: Running) -> None:
    stream = await gateway.openai.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=10,
        seed=1,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    whole = await gateway.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=10, seed=1
    )
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "length"
