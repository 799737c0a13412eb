"""Why a model cannot be served, each with the reason that becomes a condition of the service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from coxswain_crds.reasons import StartFailure


class ModelError(Exception):
    """The engine cannot start. `field` is the field of the resource to change, `message` says what to do."""

    reason: ClassVar[StartFailure] = StartFailure.INTERNAL_ERROR

    def __init__(self, message: str, *, field: str = "spec.model.uri") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class ModelNotFoundError(ModelError):
    """There is no such directory."""

    reason = StartFailure.MODEL_NOT_FOUND


class ModelUnreadableError(ModelError):
    """A file is there, and this process may not read it."""

    reason = StartFailure.MODEL_UNREADABLE

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not readable for user {os.geteuid()}: chmod a+r the model's files")


class ConfigError(ModelError):
    """config.json is missing, is not JSON, or lacks a field."""

    reason = StartFailure.CONFIG_INVALID


class UnsupportedArchitectureError(ModelError):
    """An architecture, or a variant of a known one, that this engine does not compute."""

    reason = StartFailure.UNSUPPORTED_ARCHITECTURE


class WeightsMissingError(ModelError):
    """A safetensors file or a tensor is not there."""

    reason = StartFailure.WEIGHTS_MISSING


class WeightsCorruptError(ModelError):
    """A safetensors file is truncated or damaged."""

    reason = StartFailure.WEIGHTS_CORRUPT


class WeightsMismatchError(ModelError):
    """A tensor has another shape or type than config.json says."""

    reason = StartFailure.WEIGHTS_MISMATCH


class TokenizerMissingError(ModelError):
    """tokenizer.json is missing or cannot be read."""

    reason = StartFailure.TOKENIZER_MISSING


class TokenizerMismatchError(ModelError):
    """The tokenizer knows ids that the model has no embedding for."""

    reason = StartFailure.TOKENIZER_MISMATCH


class NotEnoughMemoryError(ModelError):
    """Weights and KV cache do not fit."""

    reason = StartFailure.OUT_OF_MEMORY


class ArgumentError(ModelError):
    """An engine option has a bad value."""

    reason = StartFailure.ARGUMENT_INVALID

    def __init__(self, message: str, *, field: str = "spec.engine.args") -> None:
        super().__init__(message, field=field)


class AcceleratorError(ModelError):
    """The engine needs a device that is not there."""

    reason = StartFailure.ACCELERATOR_UNAVAILABLE
