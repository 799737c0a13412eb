"""From text to a trained model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from examples.tiny_model import bigrams, tokenizer
from examples.tiny_model.progress import Board
from examples.tiny_model.settings import Settings

CONTEXT = 2048
"""Positions that the model accepts; it was trained on far shorter windows, and gets vague beyond them."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Trained:
    """A model, its tokenizer, and the mean loss (nats per token) over the last tenth of the training."""

    model: LlamaForCausalLM
    tokenizer: Tokenizer
    loss: float


def train(texts: Sequence[str], settings: Settings, board: Board, *, clock: Clock = time.monotonic) -> Trained:
    """Train tokenizer and model on `texts`. Equal texts, settings and thread counts give equal weights."""
    words = _learn_tokenizer(texts, settings, board)
    ids = _encode(texts, words, board)
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(architecture(settings, vocab_size=words.get_vocab_size()))
    _fit_bigrams(model, ids, settings, board)
    loss = _fit(model, ids, settings, board, clock)
    return Trained(model, words, loss)


def architecture(settings: Settings, *, vocab_size: int) -> LlamaConfig:
    """Llama with heads of 64, two query heads per key head, and separate input and output embeddings.

    Separate, because a table of pairs is not symmetric: what follows a token is not what it follows.
    """
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.hidden // 64,
        num_key_value_heads=max(1, settings.hidden // 128),
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.END_ID,
        eos_token_id=tokenizer.END_ID,
        pad_token_id=tokenizer.END_ID,
    )


def _learn_tokenizer(texts: Sequence[str], settings: Settings, board: Board) -> Tokenizer:
    bar = board.bar("Learn the tokenizer", total=len(texts))
    return tokenizer.train(texts, vocab_size=settings.vocab_size, advance=bar.advance)


def _encode(texts: Sequence[str], words: Tokenizer, board: Board) -> torch.Tensor:
    bar = board.bar("Encode the text", total=len(texts))
    return torch.tensor(tokenizer.encode(words, texts, advance=bar.advance))


def _fit_bigrams(model: LlamaForCausalLM, ids: torch.Tensor, settings: Settings, board: Board) -> None:
    bar = board.bar("Fit pairs of tokens", total=settings.bigram_steps)
    bigrams.fit(model, ids, steps=settings.bigram_steps, advance=lambda loss: bar.advance(1, f"loss {loss:.2f}"))


def _fit(model: LlamaForCausalLM, ids: torch.Tensor, settings: Settings, board: Board, clock: Clock) -> float:
    """The loop: AdamW, a short warm-up, cosine decay over steps or time. Returns the mean loss of the last tenth."""
    bar = board.bar("Train the model", total=1.0)
    windows = torch.Generator().manual_seed(settings.seed)
    optimizer = _optimizer(model)
    losses: list[float] = []
    started = clock()
    while (progress := _progress(len(losses), clock() - started, settings)) < 1.0:
        _set_rates(optimizer, step=len(losses), progress=progress)
        losses.append(_step(model, _sample(ids, settings, windows), optimizer))
        bar.move(_progress(len(losses), clock() - started, settings), f"loss {_tail(losses):.2f}")
    return _tail(losses)


def _progress(steps: int, seconds: float, settings: Settings) -> float:
    return steps / settings.steps if settings.minutes is None else seconds / (60 * settings.minutes)


def _optimizer(model: LlamaForCausalLM) -> torch.optim.Optimizer:
    """The layers learn fast; embeddings and head, which already know the pairs, slowly."""
    layers = [weight for name, weight in model.named_parameters() if ".layers." in name and weight.ndim == 2]
    others = [weight for name, weight in model.named_parameters() if ".layers." not in name or weight.ndim != 2]
    groups = [
        {"params": layers, "lr": 0.0, "peak": 2e-3, "weight_decay": 0.1},
        {"params": others, "lr": 0.0, "peak": 5e-4, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def _set_rates(optimizer: torch.optim.Optimizer, *, step: int, progress: float) -> None:
    factor = min(1.0, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _sample(ids: torch.Tensor, settings: Settings, generator: torch.Generator) -> torch.Tensor:
    starts = torch.randint(len(ids) - settings.window, (settings.batch,), generator=generator)
    return torch.stack([ids[start : start + settings.window] for start in starts.tolist()])


def _step(model: LlamaForCausalLM, ids: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _tail(losses: list[float]) -> float:
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else math.nan
