"""The OpenAI API as the `openai` client sees it."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer

from coxswain_protocol.messages import EngineInfo
from tests.gateway.asking import chat, complete, ids
from tests.gateway.conftest import MODEL, NewReplica, Running
from tests.gateway.scripted import ScriptedReplica, expected


async def test_a_completion(gateway: Running, info: EngineInfo) -> None:
    answer = await complete(gateway, max_tokens=12, extra_body={"return_token_ids": True})
    choice = answer.choices[0]
    assert choice.model_extra is not None
    assert ids(choice) == expected((5, 6, 7), seed=3, tokens=12, vocab_size=info.vocab_size)
    assert choice.model_extra["prompt_token_ids"] == [5, 6, 7]
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 12, 15)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1


async def test_a_completion_without_max_tokens_has_sixteen(gateway: Running) -> None:
    answer = await complete(gateway)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


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
    whole = await chat(gateway)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "length"
    assert whole.id.startswith("chatcmpl-")


async def test_messages_of_parts_and_a_system_prompt(gateway: Running, tokenizer: Tokenizer) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}]
    answer = await chat(gateway, messages=messages, extra_body={"return_token_ids": True})
    assert answer.model_extra is not None
    prompt = tokenizer.decode(answer.model_extra["prompt_token_ids"], skip_special_tokens=False)
    assert prompt == "<|system|>be brief\n<|user|>one\ntwo\n<|assistant|>"


@pytest.mark.parametrize(("prompt", "count"), [("one", 1), (["one", "two"], 2), ([5, 6], 1), ([[5, 6], [7]], 2)])
async def test_prompts_in_every_form(gateway: Running, prompt: Any, count: int) -> None:
    answer = await complete(gateway, prompt=prompt, n=2, max_tokens=2)
    assert [choice.index for choice in answer.choices] == list(range(2 * count))


async def test_several_choices_have_successive_seeds(gateway: Running, info: EngineInfo) -> None:
    answer = await complete(gateway, n=3, max_tokens=5, extra_body={"return_token_ids": True})
    for number, choice in enumerate(answer.choices):
        assert ids(choice) == expected((5, 6, 7), seed=3 + number, tokens=5, vocab_size=info.vocab_size)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 15)


async def test_streamed_choices_each_end_once(gateway: Running) -> None:
    stream = await gateway.openai.completions.create(model=MODEL, prompt=[5], n=3, max_tokens=5, stream=True)
    finished = [choice.index async for chunk in stream for choice in chunk.choices if choice.finish_reason]
    assert sorted(finished) == [0, 1, 2]


async def test_without_a_seed_answers_differ(gateway: Running) -> None:
    texts = {(await complete(gateway, seed=None, max_tokens=20)).choices[0].text for _ in range(3)}
    assert len(texts) == 3


async def test_sampling_reaches_the_engine(scripted: tuple[Running, ScriptedReplica]) -> None:
    gateway, replica = scripted
    extra = {"top_k": 7, "min_p": 0.1, "repetition_penalty": 1.2, "min_tokens": 2, "ignore_eos": True}
    await complete(
        gateway,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=-0.2,
        max_tokens=3,
        extra_body=extra | {"stop_token_ids": [9]},
    )
    sampling = replica.submitted[0].sampling
    assert (sampling.seed, sampling.temperature, sampling.top_p, sampling.top_k) == (3, 0.5, 0.9, 7)
    assert (sampling.min_p, sampling.repetition_penalty, sampling.presence_penalty) == (0.1, 1.2, 0.1)
    assert (sampling.frequency_penalty, sampling.min_tokens, sampling.max_tokens) == (-0.2, 2, 3)
    assert (sampling.ignore_eos, sampling.stop_ids, sampling.logprobs) == (True, (9,), None)


async def test_logprobs_of_a_completion(gateway: Running) -> None:
    logprobs = (await complete(gateway, max_tokens=3, logprobs=2)).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs == [-0.5] * 3
    assert logprobs.tokens is not None
    assert logprobs.top_logprobs is not None
    assert [len(top) for top in logprobs.top_logprobs] == [2] * 3
    assert logprobs.text_offset is not None
    assert logprobs.text_offset[0] == 0
    assert (await complete(gateway, max_tokens=3, logprobs=0)).choices[0].logprobs is not None


async def test_logprobs_of_a_chat(gateway: Running, tokenizer: Tokenizer) -> None:
    answer = await chat(gateway, logprobs=True, top_logprobs=3, extra_body={"return_token_ids": True})
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.logprob for entry in logprobs.content] == [-0.5] * 10
    assert all(len(entry.top_logprobs) == 3 for entry in logprobs.content)
    spelled = b"".join(bytes(entry.bytes or []) for entry in logprobs.content)
    assert spelled.decode(errors="replace") == tokenizer.decode(ids(answer.choices[0]))
    stream = await gateway.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], seed=1, max_tokens=10, logprobs=True, stream=True
    )
    parts = [choice.logprobs async for chunk in stream for choice in chunk.choices]
    streamed = [entry.token for part in parts if part and part.content for entry in part.content]
    assert streamed == [entry.token for entry in logprobs.content]


async def test_models(gateway: Running) -> None:
    models = await gateway.openai.models.list()
    assert [model.id for model in models.data] == [MODEL]
    assert (await gateway.openai.models.retrieve(MODEL)).owned_by == "coxswain"


async def test_the_request_id_is_taken_or_made(gateway: Running) -> None:
    path, body = "/v1/completions", {"prompt": "a", "max_tokens": 1}
    _, answer, headers = await gateway.post(path, body, headers={"x-request-id": "abc-1"})
    assert (headers["x-request-id"], answer["id"]) == ("abc-1", "cmpl-abc-1")
    _, answer, headers = await gateway.post(path, body)
    assert answer["id"] == f"cmpl-{headers['x-request-id']}"
    async with gateway.http.post(f"{gateway.url}{path}", json=body | {"stream": True}) as streamed:
        assert streamed.headers["x-request-id"]
        assert streamed.headers["Content-Type"].startswith("text/event-stream")


async def test_two_clients_may_use_one_id(gateway: Running, info: EngineInfo) -> None:
    body = {"prompt": [5], "max_tokens": 30, "return_token_ids": True}
    headers = {"x-request-id": "same"}
    answers = [await gateway.post("/v1/completions", body | {"seed": seed}, headers=headers) for seed in (1, 2)]
    for seed, (_, answer, _) in zip((1, 2), answers, strict=True):
        tokens = answer["choices"][0]["token_ids"]
        assert tokens == expected((5,), seed=seed, tokens=30, vocab_size=info.vocab_size)


async def test_metrics(gateway: Running) -> None:
    await complete(gateway, max_tokens=10)
    assert await gateway.metric("coxswain_generation_tokens_total") == 10
    assert await gateway.metric("coxswain_time_to_first_token_seconds_count") == 1
    assert await gateway.metric("coxswain_inter_token_latency_seconds_count") == 9
    assert await gateway.metric("coxswain_members") == 2
    assert await gateway.metric("coxswain_lost_requests_total") == 0
    assert await gateway.metric("coxswain_streams") == 0


async def test_the_status_page_needs_the_token(gateway: Running) -> None:
    async with gateway.http.get(f"http://127.0.0.1:{gateway.ports.status}/internal/status") as answer:
        assert answer.status == 401
    status = await gateway.status()
    assert [(m.replica, m.state, m.exact) for m in status.members] == [
        ("replica-0", "Ready", True),
        ("replica-1", "Ready", True),
    ]


async def test_a_shared_prefix_goes_where_it_is_cached(
    scripted: tuple[Running, ScriptedReplica], new_replica: NewReplica
) -> None:
    from coxswain_protocol.messages import Blocks
    from coxswain_scheduler.batching import block_hashes

    gateway, first = scripted
    second = await gateway.add(new_replica("replica-1"))
    prompt = list(range(3, 203))
    second._send(Blocks(tuple(block_hashes(prompt, block_size=16))))
    index = gateway.gateway.fleet.cluster.roster.prefixes
    await gateway.until(lambda: len(index) > 0, what="the blocks")
    for _ in range(4):
        await complete(gateway, prompt=prompt, max_tokens=1)
    assert (len(first.submitted), len(second.submitted)) == (0, 4)
