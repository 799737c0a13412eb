"""What clients get to see of the engine's tokens, and where it ends: stop strings, special tokens, split characters."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer

from coxswain_protocol.messages import Request
from tests.gateway.asking import complete, ids
from tests.gateway.conftest import MODEL, Running
from tests.gateway.scripted import EOS, ScriptedReplica


def saying(*tokens: int) -> Any:
    """A script: these tokens, over and over."""

    def script(_: Request, output: list[int]) -> int:
        return tokens[len(output) % len(tokens)]

    return script


async def test_a_stop_string_across_tokens(scripted: tuple[Running, ScriptedReplica], tokenizer: Tokenizer) -> None:
    gateway, replica = scripted
    text = "lazy fox jumps over the dog"
    tokens = [token for piece in ("lazy ", "fo", "x ju", "mps over the dog") for token in tokenizer.encode(piece).ids]
    replica.script = saying(*tokens)
    answer = await complete(gateway, max_tokens=len(tokens), stop=["never", "fox jump"])
    assert answer.choices[0].text == "lazy "
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.choices[0].model_extra or {})["stop_reason"] == "fox jump"
    await replica.until(lambda: bool(replica.aborted), what="the engine to be told")
    assert answer.usage is not None
    assert answer.usage.completion_tokens < len(tokens)
    kept = await complete(
        gateway, max_tokens=len(tokens), stop="fox jump", extra_body={"include_stop_str_in_output": True}
    )
    assert kept.choices[0].text == "lazy fox jump"
    late = await complete(gateway, max_tokens=len(tokens), stop="lazy", extra_body={"min_tokens": len(tokens)})
    assert late.choices[0].text == text


async def test_held_back_text_is_shown_at_the_end(
    scripted: tuple[Running, ScriptedReplica], tokenizer: Tokenizer
) -> None:
    gateway, replica = scripted
    tokens = tokenizer.encode("ab fo").ids
    replica.script = saying(*tokens)
    stream = await gateway.openai.completions.create(
        model=MODEL, prompt="a", max_tokens=len(tokens), stop="fox", stream=True
    )
    pieces = [(choice.text, choice.finish_reason) async for chunk in stream for choice in chunk.choices]
    assert "".join(text for text, _ in pieces) == "ab fo"
    assert pieces[-1][1] == "length"


async def test_the_end_token_is_not_shown(scripted: tuple[Running, ScriptedReplica], tokenizer: Tokenizer) -> None:
    gateway, replica = scripted
    tokens = [*tokenizer.encode("the end").ids, EOS]
    replica.script = saying(*tokens)
    answer = await complete(gateway, max_tokens=50, extra_body={"return_token_ids": True})
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("the end", "stop")
    assert ids(answer.choices[0]) == tokens
    on = await complete(gateway, max_tokens=2 * len(tokens), extra_body={"ignore_eos": True})
    assert (on.choices[0].text, on.choices[0].finish_reason) == ("the endthe end", "length")
    shown = await complete(
        gateway, max_tokens=len(tokens), extra_body={"ignore_eos": True, "skip_special_tokens": False}
    )
    assert shown.choices[0].text == "the end<|end|>"


async def test_a_stop_token_is_named_and_not_shown(
    scripted: tuple[Running, ScriptedReplica], tokenizer: Tokenizer
) -> None:
    gateway, replica = scripted
    tokens = tokenizer.encode("a dog").ids
    replica.script = saying(*tokens)
    answer = await complete(gateway, max_tokens=50, extra_body={"stop_token_ids": [tokens[-1]]})
    assert answer.choices[0].text == tokenizer.decode(tokens[:-1])
    assert (answer.choices[0].model_extra or {})["stop_reason"] == tokens[-1]


async def test_characters_across_tokens(scripted: tuple[Running, ScriptedReplica], tokenizer: Tokenizer) -> None:
    gateway, replica = scripted
    text = "naïve 🦊 你好 👩‍👩‍👧‍👦!"
    tokens = tokenizer.encode(text).ids
    replica.script = saying(*tokens)
    stream = await gateway.openai.completions.create(model=MODEL, prompt="a", max_tokens=len(tokens), stream=True)
    pieces = [choice.text async for chunk in stream for choice in chunk.choices]
    assert "".join(pieces) == text
    assert not any("�" in piece for piece in pieces)
