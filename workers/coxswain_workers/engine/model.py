"""A Llama-family decoder on a paged KV cache: weights as plain tensors, one arithmetic for prefill and decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from coxswain_kernels.elementwise.rms_norm import add_rms_norm, rms_norm
from coxswain_kernels.elementwise.rotary import rotary_tables
from coxswain_kernels.elementwise.silu_mul import silu_mul
from coxswain_workers.engine.config import ModelConfig
from coxswain_workers.engine.weights import Weights

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, query [rows, heads, head_dim], key, value [rows, kv_heads, head_dim]) → [rows, heads x head_dim]. Query and
key are not rotated yet: the positions are the caller's too."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer, its weight [in, out]."""

    weight: Tensor
    bias: Tensor | None = None


Multiply = Callable[[Tensor, Projection], Tensor]
"""(x [rows, in], linear layer) → [rows, out]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer; query, key and value in one projection, gate and up in another."""

    attention_norm: Tensor
    qkv: Projection
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: Projection
    mlp_norm: Tensor
    gate_up: Projection
    down: Projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights and forward pass; attention is the caller's, who owns the KV cache."""

    config: ModelConfig
    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Projection
    cos: Tensor
    sin: Tensor

    def forward(self, ids: Tensor, attend: Attend, multiply: Multiply) -> Tensor:
        """Hidden states [rows, hidden] before the last norm, of ids [rows]."""
        x = self.embedding.index_select(0, ids)
        eps = self.config.rms_norm_eps
        normal = rms_norm(x, self.layers[0].attention_norm, eps)
        for number, layer in enumerate(self.layers):
            attended = attend(number, *self._heads(layer, multiply(normal, layer.qkv)))
            normal = add_rms_norm(multiply(attended, layer.output), x, layer.mlp_norm, eps)
            down = multiply(silu_mul(multiply(normal, layer.gate_up)), layer.down)
            if number + 1 < len(self.layers):
                normal = add_rms_norm(down, x, self.layers[number + 1].attention_norm, eps)
        return x.add_(down)

    def logits(self, hidden: Tensor, multiply: Multiply) -> Tensor:
        """Logits [rows, vocab] of hidden states [rows, hidden]."""
        return multiply(rms_norm(hidden, self.norm, self.config.rms_norm_eps), self.head)

    def _heads(self, layer: Layer, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [rows, heads, head_dim]."""
        config = self.config
        query, key, value = qkv.view(qkv.shape[0], -1, config.head_dim).split_with_sizes(
            (config.heads, config.kv_heads, config.kv_heads), 1
        )
        if layer.query_norm is not None and layer.key_norm is not None:
            query = rms_norm(query, layer.query_norm, config.rms_norm_eps)
            key = rms_norm(key, layer.key_norm, config.rms_norm_eps)
        return query, key, value


def load_model(path: Path, config: ModelConfig, *, positions: int, dtype: torch.dtype, device: str) -> Model:
    """Read the weights of `config` for up to `positions` positions. Raises what `Weights` raises."""
    weights = Weights(path, dtype=dtype, device=device)
    embedding = weights.take("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
    head = embedding if config.tied else weights.take("lm_head.weight", config.vocab_size, config.hidden_size)
    cos, sin = rotary_tables(
        head_dim=config.head_dim,
        theta=config.rope_theta,
        positions=positions,
        scaling=config.rope_llama3,
        linear_factor=config.rope_linear_factor,
    )
    return Model(
        config=config,
        embedding=embedding,
        layers=tuple(_layer(weights, config, f"model.layers.{number}.") for number in range(config.layers)),
        norm=weights.take("model.norm.weight", config.hidden_size),
        head=Projection(head.t().contiguous()),
        cos=cos.to(device=device, dtype=dtype),
        sin=sin.to(device=device, dtype=dtype),
    )


def _layer(weights: Weights, config: ModelConfig, prefix: str) -> Layer:
    hidden, dim = config.hidden_size, config.head_dim
    queries, keys, inner = config.heads * dim, config.kv_heads * dim, config.intermediate_size

    def projection(outputs: dict[str, int], inputs: int, *, bias: bool) -> Projection:
        """Several layers with the same input as one."""
        parts = [weights.take(f"{prefix}{name}.weight", size, inputs) for name, size in outputs.items()]
        biases = [weights.take(f"{prefix}{name}.bias", size) for name, size in outputs.items()] if bias else None
        return Projection(torch.cat(parts).t().contiguous(), torch.cat(biases) if biases else None)

    qkv = {"self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys}
    return Layer(
        attention_norm=weights.take(f"{prefix}input_layernorm.weight", hidden),
        qkv=projection(qkv, hidden, bias=config.qkv_bias),
        query_norm=weights.take(f"{prefix}self_attn.q_norm.weight", dim) if config.head_norm else None,
        key_norm=weights.take(f"{prefix}self_attn.k_norm.weight", dim) if config.head_norm else None,
        output=projection({"self_attn.o_proj": hidden}, queries, bias=config.output_bias),
        mlp_norm=weights.take(f"{prefix}post_attention_layernorm.weight", hidden),
        gate_up=projection({"mlp.gate_proj": inner, "mlp.up_proj": inner}, hidden, bias=config.mlp_bias),
        down=projection({"mlp.down_proj": hidden}, inner, bias=config.mlp_bias),
    )
