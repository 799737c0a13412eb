"""A head start: embeddings and output layer learn which token follows which, before the layers between them exist.

Two minutes on two cores are half a million tokens, and a transformer spends all of them on finding out the frequencies
of tokens and of pairs. Those can be counted. With every layer's output still zero, the model is exactly
`head(norm(embedding(token)))`, a factored table of pairs; fitting it to the counts takes a step over the *whole* corpus
for the price of a few hundred tokens. The layers then only learn what pairs do not say.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import LlamaForCausalLM

_RATE = 3e-2
_WARMUP_STEPS = 10


def fit(model: LlamaForCausalLM, ids: torch.Tensor, *, steps: int, advance: Callable[[float], None]) -> None:
    """Fit the embeddings and the head of `model` to the pairs in `ids` (one dimension, int64), all on the CPU.

    The outputs of attention and MLP are set to zero first. `advance` gets the loss (nats per token) of each step.
    """
    _silence_layers(model)
    follows = _pair_frequencies(ids, vocab_size=model.config.vocab_size)
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    optimizer = torch.optim.AdamW([embedding, head], betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * min(1.0, (step + 1) / _WARMUP_STEPS) * (1 - step / steps)
        logits = model.model.norm(embedding) @ head.T
        loss = -(follows * logits.log_softmax(-1)).sum()
        loss.backward()
        optimizer.step()
        model.zero_grad()
        advance(loss.item())


def _silence_layers(model: LlamaForCausalLM) -> None:
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)


def _pair_frequencies(ids: torch.Tensor, *, vocab_size: int) -> torch.Tensor:
    pairs = ids[:-1] * vocab_size + ids[1:]
    counts = torch.bincount(pairs, minlength=vocab_size * vocab_size).view(vocab_size, vocab_size)
    return counts / pairs.numel()
