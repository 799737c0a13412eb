"""The benchmark of decode steps, but for the GPU: what it says without one, and that its batches are ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import decode_steps
from coxswain_workers.engine.torch_runner import TorchRunner

TINY = replace(
    decode_steps.LLAMA_8B,
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    max_position_embeddings=64,
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert decode_steps.main([]) == 2
    assert "torch sees no GPU here" in capsys.readouterr().err


def test_its_batches_are_decoded() -> None:
    model = decode_steps.random_model(TINY, device="cpu", dtype=torch.float32)
    runner = TorchRunner(model, num_blocks=9, block_size=decode_steps.BLOCK)
    entries = decode_steps.decoding(3, 40)
    logits = runner.run(entries)
    assert logits.shape == (3, 64)
    assert logits.isfinite().all()
    assert decode_steps.step_seconds(runner, entries, steps=2) > 0
