"""A checkpoint that cannot be served says why, as a type and in a sentence."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from coxswain_crds.reasons import StartFailure
from coxswain_workers.engine import errors
from coxswain_workers.engine.interface import EngineOptions
from coxswain_workers.engine.native import load_native
from tests.checkpoints import write_checkpoint, write_tokenizer

OPTIONS = EngineOptions(num_blocks=16, threads=1)


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None takes one out."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: field for name, field in value.items() if field is not None}))


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors")


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


Spoil = Callable[[Path], Any]
CASES: dict[str, tuple[Spoil, type[errors.ModelError], str]] = {
    "config missing": (lambda p: (p / "config.json").unlink(), errors.ConfigError, "config.json is not in"),
    "config not JSON": (
        lambda p: (p / "config.json").write_text("{"),
        errors.ConfigError,
        "config.json cannot be read",
    ),
    "config lacks a field": (
        lambda p: edit(p / "config.json", hidden_size=None),
        errors.ConfigError,
        "config.json has no hidden_size",
    ),
    "config has a wrong type": (
        lambda p: edit(p / "config.json", num_hidden_layers="2"),
        errors.ConfigError,
        "num_hidden_layers '2'; it must be of type int",
    ),
    "heads do not divide": (
        lambda p: edit(p / "config.json", num_key_value_heads=3),
        errors.ConfigError,
        "4 attention heads, no multiple of 3",
    ),
    "unknown architecture": (
        lambda p: edit(p / "config.json", architectures=["GPT2LMHeadModel"]),
        errors.UnsupportedArchitectureError,
        "names the architecture GPT2LMHeadModel; the native engine knows LlamaForCausalLM",
    ),
    "unknown positions": (
        lambda p: edit(p / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        errors.UnsupportedArchitectureError,
        "by yarn",
    ),
    "quantised": (
        lambda p: edit(p / "config.json", quantization_config={"bits": 4}),
        errors.UnsupportedArchitectureError,
        "quantization_config",
    ),
    "no weights": (
        lambda p: (p / "model.safetensors").unlink(),
        errors.WeightsMissingError,
        r"no \*.safetensors file",
    ),
    "a tensor missing": (
        lambda p: edit_weights(p, lambda w: w.pop("model.layers.1.mlp.up_proj.weight")),
        errors.WeightsMissingError,
        "model.layers.1.mlp.up_proj.weight is in none",
    ),
    "a tensor misshapen": (
        lambda p: edit_weights(p, lambda w: w.update({"model.norm.weight": torch.ones(63)})),
        errors.WeightsMismatchError,
        r"model.norm.weight has shape \[63\]; config.json makes it \[64\]",
    ),
    "a tensor of integers": (
        lambda p: edit_weights(p, lambda w: w.update({"model.norm.weight": torch.ones(64, dtype=torch.int32)})),
        errors.WeightsMismatchError,
        "model.norm.weight has type I32",
    ),
    "weights truncated": (
        lambda p: truncate(p / "model.safetensors"),
        errors.WeightsCorruptError,
        "model.safetensors is truncated or damaged",
    ),
    "weights overwritten": (
        lambda p: (p / "model.safetensors").write_bytes(b"\xff" * 1000),
        errors.WeightsCorruptError,
        "model.safetensors is truncated or damaged",
    ),
    "weights empty": (
        lambda p: (p / "model.safetensors").write_bytes(b""),
        errors.WeightsCorruptError,
        "model.safetensors is truncated or damaged",
    ),
    "no tokenizer": (
        lambda p: (p / "tokenizer.json").unlink(),
        errors.TokenizerMissingError,
        "tokenizer.json is not in",
    ),
    "tokenizer not JSON": (
        lambda p: truncate(p / "tokenizer.json"),
        errors.TokenizerMissingError,
        "tokenizer.json cannot be read",
    ),
    "tokenizer of another model": (
        lambda p: write_tokenizer(p, vocab_size=420),
        errors.TokenizerMismatchError,
        "token ids up to 419, config.json a vocab_size of 384",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_spoiled_checkpoint_gives_its_own_error(name: str, tmp_path: Path) -> None:
    spoil, kind, message = CASES[name]
    spoil(write_checkpoint(tmp_path))
    with pytest.raises(errors.ModelError, match=message) as caught:
        load_native(tmp_path, OPTIONS)
    assert type(caught.value) is kind
    assert caught.value.field == "spec.model.uri"
    assert caught.value.message == str(caught.value)


@contextmanager
def ordinary_user() -> Iterator[int]:
    """Whom permissions apply to, also when the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield os.geteuid()
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_checkpoint(Path(folder))
        path.chmod(0o755)
        for file in path.iterdir():
            file.chmod(0 if file.name == name else 0o644)
        with ordinary_user() as user, pytest.raises(errors.ModelUnreadableError) as caught:
            load_native(path, OPTIONS)
    assert caught.value.message == f"{path / name} is not readable for user {user}: chmod a+r the model's files"


def test_a_missing_directory_and_a_missing_shard_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(errors.ModelNotFoundError, match="there is no directory"):
        load_native(tmp_path / "nowhere", OPTIONS)
    path = write_checkpoint(tmp_path / "shards", shards=2)
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(errors.WeightsMissingError, match=r"model-00002-of-00002.safetensors, which .*index.json names"):
        load_native(path, OPTIONS)


def test_too_little_memory_is_said_before_it_is_taken(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    with pytest.raises(
        errors.NotEnoughMemoryError, match=r"1000000000 KV blocks need .* GiB and .* GiB are free"
    ) as caught:
        load_native(path, EngineOptions(num_blocks=10**9))
    assert caught.value.reason is StartFailure.OUT_OF_MEMORY
    assert caught.value.field == "spec.engine.args"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arithmetic": "exakt"}, "--arithmetic is 'exakt'; it must be exact or fast"),
        ({"block_size": 0}, "--block-size is 0; it must be at least 1"),
        ({"max_num_seqs": 64, "max_step_tokens": 32}, "--max-step-tokens is 32; it must be at least --max-num-seqs"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ArgumentError, match=message):
        EngineOptions(**options)


def test_every_error_has_a_reason_of_its_own() -> None:
    kinds = errors.ModelError.__subclasses__()
    assert len({kind.reason for kind in kinds}) == len(kinds)


def test_digests_tell_models_and_tokenizers_apart(tmp_path: Path) -> None:
    info = load_native(write_checkpoint(tmp_path / "a"), OPTIONS).info
    same = load_native(write_checkpoint(tmp_path / "b"), OPTIONS).info
    other = load_native(write_checkpoint(tmp_path / "c", seed=1), OPTIONS).info
    assert (same.weights_digest, same.tokenizer_digest) == (info.weights_digest, info.tokenizer_digest)
    assert other.weights_digest != info.weights_digest
    assert other.tokenizer_digest == info.tokenizer_digest
    assert info.step_floor_seconds > 0
    assert "exact" in info.features
