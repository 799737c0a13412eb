"""The native engine computes what `transformers` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from coxswain_scheduler.batching import Entry, TokenSequence
from coxswain_workers.engine.interface import EngineOptions
from coxswain_workers.engine.native import load_native
from tests.checkpoints import write_checkpoint
from tests.engine.driving import complete, request

LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}

VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied-in-shards": {"tied": True, "shards": 3},
    "llama-biased": {"attention_bias": True},
    "llama3-positions": {"rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    "llama3-positions-v5": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
    "llama-linear-positions": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "llama-one-kv-head": {"kv_heads": 1},
    "llama-no-groups": {"kv_heads": 4},
    "llama-bfloat16": {"dtype": torch.bfloat16},
    "qwen2": {"architecture": "qwen2"},
    "qwen2-tied": {"architecture": "qwen2", "tied": True},
    "qwen3": {"architecture": "qwen3"},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("arithmetic", ["exact", "fast"])
def test_logits_and_greedy_tokens_equal_those_of_transformers(name: str, arithmetic: Any, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, **VARIANTS[name])
    reference = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    engine = load_native(path, EngineOptions(arithmetic=arithmetic, num_blocks=64, threads=1, check_integrity=True))
    prompts = [[(7 * place + 31 * index) % 384 for place in range(length)] for index, length in enumerate((1, 20, 70))]
    for index, prompt in enumerate(prompts):
        with torch.no_grad():
            expected = reference(torch.tensor([prompt])).logits[0, -1]
        sequence = TokenSequence(str(index), prompt=prompt, block_size=32)
        sequence.blocks = [3, 1, 2]
        got = engine._runner.run([Entry(sequence, 0, len(prompt), samples=True)])[0]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)
    results = complete(
        engine, *(request(str(index), prompt, max_tokens=40, min_tokens=40) for index, prompt in enumerate(prompts))
    )
    for index, prompt in enumerate(prompts):
        assert results[str(index)].tokens == _greedy(reference, prompt, 40)


def _greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    tokens = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
    )
    return list(tokens[0, len(prompt) :].tolist())
