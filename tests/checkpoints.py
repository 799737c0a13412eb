"""Tiny random checkpoints in Hugging Face format, with a real tokenizer, for any test that needs a model on disk.

Weights are untied by default and drawn with a wide spread, so that logits differ enough between tokens for equality
tests to mean something. Written by hand rather than by `transformers`, so that a gateway test need not import it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Architecture = Literal["llama", "qwen2", "qwen3"]

CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}

SPECIALS = ("<|pad|>", "<|start|>", "<|end|>")
PAD, START, END = range(3)

SENTENCES = (
    "The coxswain steers the boat and calls the stroke, and the crew keeps rowing when one of them is lost.",
    "A replica is a process that answers requests; a gateway is a process that remembers what was answered.",
    "Schöne Grüße aus Köln, 你好世界, naïve café, and a rocket 🚀 to cross token borders with.",
    "def steer(boat, stroke):\n    return [row(seat) for seat in boat if seat is not None]\n",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def write_checkpoint(
    path: Path,
    *,
    architecture: Architecture = "llama",
    vocab_size: int = 384,
    layers: int = 2,
    hidden: int = 64,
    intermediate: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 16,
    max_model_len: int = 512,
    tied: bool = False,
    initializer_range: float = 0.08,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a checkpoint into `path` (made if missing) and return it. Equal arguments give equal bytes.

    `vocab_size` must leave room for the byte alphabet (at least 259). Further keyword arguments go into config.json
    as they are, `rope_scaling` for one. The end-of-sequence id is `END`.
    """
    path.mkdir(parents=True, exist_ok=True)
    settings = {
        "architectures": [CLASSES[architecture]],
        "model_type": architecture,
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": max_model_len,
        "initializer_range": initializer_range,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **config,
    }
    _write_json(path / "config.json", settings)
    _write_json(path / "generation_config.json", {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD})
    write_tokenizer(path, vocab_size=vocab_size)
    _write_weights(path, _random_weights(settings, dtype=dtype, seed=seed), shards=shards)
    return path


def write_tokenizer(path: Path, *, vocab_size: int = 384) -> None:
    """Train a byte-level BPE on `SENTENCES` and write tokenizer.json and tokenizer_config.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 2, trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    _write_json(
        path / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIALS[START],
            "eos_token": SPECIALS[END],
            "pad_token": SPECIALS[PAD],
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
        },
    )


def _random_weights(config: dict[str, Any], *, dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in _shapes(config).items():
        noise = torch.randn(shape, generator=generator) * config["initializer_range"]
        weights[name] = (noise + 1.0 if "norm" in name else noise).to(dtype)
    return weights


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in _layer_shapes(config).items()}
    return shapes


def _layer_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, intermediate, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (intermediate, hidden),
        "mlp.up_proj.weight": (intermediate, hidden),
        "mlp.down_proj.weight": (hidden, intermediate),
    }
    if config["model_type"] == "qwen2" or config.get("attention_bias"):
        shapes |= {"self_attn.q_proj.bias": (queries,), "self_attn.k_proj.bias": (keys,)}
        shapes |= {"self_attn.v_proj.bias": (keys,)}
        if config["model_type"] != "qwen2":
            shapes["self_attn.o_proj.bias"] = (hidden,)
    if config["model_type"] == "qwen3":
        shapes |= {"self_attn.q_norm.weight": (head_dim,), "self_attn.k_norm.weight": (head_dim,)}
    return shapes


def _write_weights(path: Path, weights: dict[str, torch.Tensor], *, shards: int) -> None:
    if shards == 1:
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        return
    index: dict[str, str] = {}
    for shard in range(shards):
        part = dict(list(weights.items())[shard::shards])
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, path / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, name)
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    _write_json(path / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
