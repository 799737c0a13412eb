"""Why a replica did not start, as the operator reads it from the Pod's termination message."""

from __future__ import annotations

from pathlib import Path

import msgspec

from coxswain_crds.reasons import StartFailure
from coxswain_workers.engine.errors import ModelError

LONGEST_MESSAGE = 2048
"""Kubernetes keeps 4096 bytes of a termination message."""


class ExactUnavailableError(ModelError):
    """`replay: Exact` was asked for and this machine's arithmetic cannot keep the promise."""

    reason = StartFailure.EXACT_UNAVAILABLE

    def __init__(self, message: str, *, field: str = "spec.resilience.replay") -> None:
        super().__init__(message, field=field)


class StartError(msgspec.Struct, frozen=True):
    """Reason, the field of the resource to change (empty when none would help), and what to do."""

    reason: StartFailure
    field: str
    message: str

    @classmethod
    def of(cls, error: ModelError) -> StartError:
        """The same, as data."""
        return cls(error.reason, error.field, error.message)

    def write(self, path: Path) -> None:
        """Leave it where the kubelet looks for it; without effect outside a Pod, where there is no such file."""
        if path.parent == Path("/dev") and not path.exists():
            return
        message = self.message.encode()[:LONGEST_MESSAGE].decode(errors="ignore")
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(self, message=message)))
