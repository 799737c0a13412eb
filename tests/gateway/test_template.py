"""Chat templates render exactly as `transformers` renders them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from coxswain_gateway.template import ChatTemplate, TemplateError
from coxswain_gateway.tokenizer import ModelText, TokenizerError

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}
"""
LLAMA = """{{- bos_token }}
{%- if not tools is defined or tools is none %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system = "" %}{%- endif %}
{{- "<|sys|>Today: " + strftime_now("%Y") + "\\n" + system + eos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant') }}
    {%- endif %}
    {%- if loop.last and message.role == 'assistant' %}{%- break %}{%- endif %}
    {{- '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""
TOJSON = """{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ messages | tojson }}
{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% generation %}[{{ m.content }}]
{%- endgeneration %}{% endfor %}{{ ns.n }}{{ pad_token is defined }}{{ enable_thinking is defined }}"""

CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": "  be <b>brief</b> & 'kind' "}, {"role": "user", "content": "Füße 你好 🎉\n"}],
    [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2", "name": None},
        {"role": "user", "content": "3"},
    ],
]


@pytest.fixture(scope="module")
def peer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<|user|>", eos_token="<|end|>"
    )


@pytest.mark.parametrize("template", [CHATML, LLAMA, TOJSON], ids=["chatml", "llama", "tojson"])
@pytest.mark.parametrize("chat", CHATS, ids=["one", "system", "turns"])
@pytest.mark.parametrize("options", [{}, {"enable_thinking": False}], ids=["plain", "variable"])
@pytest.mark.parametrize("prompt", [True, False])
def test_the_same_text(
    peer: PreTrainedTokenizerFast, template: str, chat: list[dict[str, Any]], options: dict[str, Any], prompt: bool
) -> None:
    theirs = peer.apply_chat_template(
        chat, chat_template=template, tokenize=False, add_generation_prompt=prompt, **options
    )
    ours = ChatTemplate(template, peer.special_tokens_map).render(chat, add_generation_prompt=prompt, **options)
    assert ours == theirs


def test_a_refusal_of_the_template_is_an_error_with_its_words() -> None:
    with pytest.raises(TemplateError, match="roles must alternate"):
        ChatTemplate(LLAMA, {"bos_token": "", "eos_token": ""}).render([{"role": "assistant", "content": "x"}])


@pytest.mark.parametrize("attack", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ 1/0 }}"])
def test_templates_run_in_a_sandbox(attack: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(attack, {}).render([{"role": "user", "content": "x"}])


def test_a_broken_template_is_named() -> None:
    with pytest.raises(TemplateError, match="cannot be compiled"):
        ChatTemplate("{% if %}", {})


def test_templates_are_found_where_checkpoints_keep_them(files: dict[str, bytes]) -> None:
    chat = CHATS[0]
    listed = {"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]}
    config = {**files, "tokenizer_config.json": json.dumps(listed).encode()}
    assert ModelText("t", config).render(chat) == "yes"
    assert ModelText("t", {**config, "chat_template.jinja": b"{{ messages[0].content }}"}).render(chat) == "hi"
    described = {"chat_template": "{{ eos_token }}", "eos_token": {"content": "</s>", "special": True}}
    assert ModelText("t", {**files, "tokenizer_config.json": json.dumps(described).encode()}).render(chat) == "</s>"
    with pytest.raises(TemplateError, match="no chat template"):
        ModelText("t", {"tokenizer.json": files["tokenizer.json"]}).render(chat)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({}, "tokenizer.json is missing"),
        ({"tokenizer.json": b"{"}, "tokenizer.json cannot be read"),
        ({"tokenizer_config.json": b"["}, "tokenizer_config.json cannot be read"),
    ],
)
def test_broken_tokenizers_are_named(files: dict[str, bytes], broken: dict[str, bytes], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        ModelText("t", files | broken if broken else {})
