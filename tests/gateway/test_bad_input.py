"""Whatever is wrong with a request, its sender is told what, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coxswain_protocol.messages import EngineInfo
from e2e.compare import compare
from tests.gateway.conftest import MODEL, NewReplica, Running, Start
from tests.gateway.streaming import busy, run_all, undisturbed

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
USER = [{"role": "user", "content": "hi"}]


def completion(**fields: Any) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"model": MODEL, "prompt": "hi", **fields}


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": MODEL, "messages": USER, **fields}


BAD = {
    "not JSON": ((COMPLETIONS, b"{nope"), 400, None, "invalid_json"),
    "not UTF-8": ((COMPLETIONS, b'{"prompt": "\xff"}'), 400, None, "invalid_json"),
    "empty": ((CHAT, b""), 400, None, "invalid_json"),
    "not an object": ((CHAT, b"[]"), 400, None, None),
    "deeply nested": ((CHAT, b'{"tools": ' + b"[" * 100_000), 400, None, "invalid_json"),
    "lone surrogate": ((COMPLETIONS, b'{"prompt": "\\ud800"}'), 400, None, "invalid_json"),
    "no prompt": ((COMPLETIONS, {"model": MODEL}), 400, "prompt", None),
    "empty prompt": (completion(prompt=""), 400, "prompt", None),
    "no prompts": (completion(prompt=[]), 400, "prompt", None),
    "mixed prompts": (completion(prompt=["a", 1]), 400, "prompt", None),
    "prompt of objects": (completion(prompt=[{}]), 400, "prompt[0]", None),
    "token id too high": (completion(prompt=[5, 10**9]), 400, "prompt", None),
    "token id negative": (completion(prompt=[-1]), 400, "prompt", None),
    "prompt too long": (completion(prompt=[5] * 5000), 400, "prompt", "context_length_exceeded"),
    "text too long": (completion(prompt="word " * 50_000), 400, "prompt", "context_length_exceeded"),
    "output too long": (completion(max_tokens=5000), 400, "max_tokens", "context_length_exceeded"),
    "negative max_tokens": (completion(max_tokens=-1), 400, "max_tokens", None),
    "zero max_tokens": (completion(max_tokens=0), 400, "max_tokens", None),
    "max_tokens as text": (completion(max_tokens="5"), 400, "max_tokens", None),
    "huge max_tokens": (completion(max_tokens=10**30), 400, "max_tokens", "context_length_exceeded"),
    "negative max_completion_tokens": (chat(max_completion_tokens=-5), 400, "max_completion_tokens", None),
    "temperature below 0": (completion(temperature=-0.1), 400, "temperature", None),
    "infinite temperature": ((COMPLETIONS, b'{"prompt": "a", "temperature": 1e999}'), 400, "temperature", None),
    "top_p of 0": (completion(top_p=0), 400, "top_p", None),
    "n of 0": (completion(n=0), 400, "n", None),
    "n beyond everything": (completion(n=129), 400, "n", None),
    "priority as text": (completion(priority="high"), 400, "priority", None),
    "half a priority": (chat(priority=0.5), 400, "priority", None),
    "priority beyond 64 bits": (chat(priority=-(2**63) - 1), 400, "priority", None),
    "seed beyond 64 bits": (completion(seed=2**63), 400, "seed", None),
    "min_tokens above max_tokens": (completion(min_tokens=20, max_tokens=5), 400, "min_tokens", None),
    "stop id that is no token": (completion(stop_token_ids=[10**6]), 400, "stop_token_ids", None),
    "empty stop": (completion(stop=""), 400, "stop", None),
    "too many stops": (completion(stop=["x"] * 17), 400, "stop", None),
    "too many logprobs": (completion(logprobs=21), 400, "logprobs", None),
    "top_logprobs alone": (chat(top_logprobs=3), 400, "top_logprobs", None),
    "echo": (completion(echo=True), 400, "echo", "unsupported"),
    "tools": (chat(tools=[{"type": "function"}]), 400, "tools", "unsupported"),
    "JSON answers": (chat(response_format={"type": "json_object"}), 400, "response_format", "unsupported"),
    "no messages": (chat(messages=[]), 400, "messages", None),
    "message without role": (chat(messages=[{"content": "x"}]), 400, "messages[0]", None),
    "an image": (
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        400,
        "messages[0].content",
        None,
    ),
    "unknown model": (completion(model="gpt-9"), 404, "model", "model_not_found"),
    "too large": ((COMPLETIONS, b'{"prompt": "' + b"a" * 10_000_000 + b'"}'), 413, None, "body_too_large"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_told_why(gateway: Running, name: str) -> None:
    (path, body), status, param, code = BAD[name]
    answered, error, headers = await gateway.post(path, body, headers={"x-request-id": "mine"})
    assert answered == status
    assert set(error) == {"error"}
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["message"]
    assert (error["error"]["param"], error["error"]["code"]) == (param, code)
    assert headers["x-request-id"] == "mine"
    assert gateway.gateway.fleet.ledger.live == 0


async def test_bad_requests_leave_others_untouched(start: Start, new_replica: NewReplica, info: EngineInfo) -> None:
    gateway = await start()
    replica = await gateway.add(new_replica("replica-0"))
    running = asyncio.create_task(run_all(gateway, range(4), tokens=300))
    await busy(replica, streams=4, tokens=2)
    for (path, body), status, _, _ in BAD.values():
        assert (await gateway.post(path, body))[0] == status
    assert compare(await running, undisturbed(info, range(4), 300)).clean
    assert (await gateway.status()).replays == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/completions", 405), ("GET", "/v1/models/other", 404)],
)
async def test_wrong_paths_and_methods(gateway: Running, method: str, path: str, status: int) -> None:
    async with gateway.http.request(method, f"{gateway.url}{path}") as answer:
        assert answer.status == status
        assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}


async def test_unknown_fields_are_ignored(gateway: Running) -> None:
    status, _, _ = await gateway.post(*completion(user="me", metadata={"a": "b"}, nonsense=[1], max_tokens=1))
    assert status == 200


async def test_an_id_that_is_not_fit_for_a_header_is_replaced(gateway: Running) -> None:
    path, body = completion(max_tokens=1)
    _, _, headers = await gateway.post(path, body, headers={"x-request-id": "x" * 500})
    assert len(headers["x-request-id"]) == 32
