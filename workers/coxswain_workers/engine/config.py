"""config.json of a Hugging Face checkpoint, checked, as the native engine needs it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from coxswain_kernels.elementwise.rotary import Llama3Scaling
from coxswain_workers.engine.errors import (
    ConfigError,
    ModelNotFoundError,
    ModelUnreadableError,
    UnsupportedArchitectureError,
)

ARCHITECTURES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")

Value = TypeVar("Value", int, float, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder of the Llama family. Sizes in elements; names as in config.json."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_linear_factor: float
    rope_llama3: Llama3Scaling | None
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    head_norm: bool
    """Whether queries and keys are normalised per head (Qwen3)."""
    eos_ids: tuple[int, ...]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of the checkpoint. Raises ConfigError, ModelUnreadableError."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path.name} is not in {path.parent}") from None
    except PermissionError:
        raise ModelUnreadableError(path) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds no JSON object")
    return value


def read_config(path: Path) -> ModelConfig:
    """Read `path`/config.json and generation_config.json.

    Raises ModelNotFoundError, ConfigError, UnsupportedArchitectureError.
    """
    if not path.is_dir():
        raise ModelNotFoundError(f"there is no directory {path}")
    raw = read_json(path / "config.json")
    architecture = _architecture(raw)
    _refuse_variants(raw)
    qwen2 = architecture == "Qwen2ForCausalLM"
    heads, hidden = _number(raw, "num_attention_heads", int), _number(raw, "hidden_size", int)
    bias = _number(raw, "attention_bias", bool, default=False)
    theta, linear, llama3 = _rope(raw)
    config = ModelConfig(
        architecture=architecture,
        vocab_size=_number(raw, "vocab_size", int),
        hidden_size=hidden,
        intermediate_size=_number(raw, "intermediate_size", int),
        layers=_number(raw, "num_hidden_layers", int),
        heads=heads,
        kv_heads=_number(raw, "num_key_value_heads", int, default=heads),
        head_dim=_number(raw, "head_dim", int, default=hidden // max(heads, 1)),
        max_position_embeddings=_number(raw, "max_position_embeddings", int),
        rms_norm_eps=_number(raw, "rms_norm_eps", float, default=1e-6),
        rope_theta=theta,
        rope_linear_factor=linear,
        rope_llama3=llama3,
        tied=_number(raw, "tie_word_embeddings", bool, default=False),
        qkv_bias=qwen2 or bias,
        output_bias=bias and not qwen2,
        mlp_bias=_number(raw, "mlp_bias", bool, default=False),
        head_norm=architecture == "Qwen3ForCausalLM",
        eos_ids=_eos_ids(path, raw),
    )
    _check(config)
    return config


def _architecture(raw: dict[str, Any]) -> str:
    names = raw.get("architectures") or ["none"]
    for name in names:
        if name in ARCHITECTURES:
            return str(name)
    known = ", ".join(ARCHITECTURES)
    raise UnsupportedArchitectureError(
        f"config.json names the architecture {names[0]}; the native engine knows {known}"
    )


def _refuse_variants(raw: dict[str, Any]) -> None:
    """Settings that change the arithmetic in ways the engine does not compute."""
    if raw.get("quantization_config"):
        raise UnsupportedArchitectureError(
            "config.json has quantization_config; use a checkpoint that is not quantised"
        )
    if raw.get("use_sliding_window") and raw.get("sliding_window"):
        raise UnsupportedArchitectureError(
            "config.json has use_sliding_window; the native engine attends to all tokens"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise UnsupportedArchitectureError(
            f"config.json has hidden_act {raw['hidden_act']}; the native engine knows silu"
        )


def _rope(raw: dict[str, Any]) -> tuple[float, float, Llama3Scaling | None]:
    """Base, divisor of all frequencies, Llama 3 scaling; from the spellings of transformers 4 and 5."""
    settings = {**raw, **(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}
    theta = _number(settings, "rope_theta", float, default=10000.0)
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind == "default":
        return theta, 1.0, None
    factor = _number(settings, "factor", float)
    if kind == "linear":
        return theta, factor, None
    if kind != "llama3":
        raise UnsupportedArchitectureError(
            f"config.json scales rotary positions by {kind}; the native engine knows linear, llama3"
        )
    return (
        theta,
        1.0,
        Llama3Scaling(
            factor=factor,
            low_freq_factor=_number(settings, "low_freq_factor", float),
            high_freq_factor=_number(settings, "high_freq_factor", float),
            original_max_position_embeddings=_number(settings, "original_max_position_embeddings", int),
        ),
    )


def _eos_ids(path: Path, raw: dict[str, Any]) -> tuple[int, ...]:
    """End-of-sequence ids of generation_config.json, else of config.json."""
    generation = path / "generation_config.json"
    value = read_json(generation).get("eos_token_id") if generation.exists() else None
    value = raw.get("eos_token_id") if value is None else value
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(id_, int) and id_ >= 0 for id_ in ids):
        raise ConfigError(f"eos_token_id is {value!r}; it must be a token id or a list of them")
    return tuple(ids)


def _number(raw: dict[str, Any], name: str, kind: type[Value], default: Value | None = None) -> Value:
    value = raw.get(name)
    if value is None:
        value = default
    if value is None:
        raise ConfigError(f"config.json has no {name}")
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise ConfigError(f"config.json has {name} {value!r}; it must be of type {kind.__name__}")
    return kind(value)


def _check(config: ModelConfig) -> None:
    for name in ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim"):
        if getattr(config, name) < 1:
            raise ConfigError(f"config.json has {name} {getattr(config, name)}; it must be at least 1")
    if config.heads % config.kv_heads:
        raise ConfigError(
            f"config.json has {config.heads} attention heads, no multiple of {config.kv_heads} key-value heads"
        )
    if config.head_dim % 2:
        raise ConfigError(f"config.json has head_dim {config.head_dim}; rotary positions need an even one")
