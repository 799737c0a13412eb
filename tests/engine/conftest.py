from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from coxswain_workers.engine.interface import EngineOptions
from coxswain_workers.engine.native import NativeEngine, load_native
from tests.checkpoints import Architecture, write_checkpoint

OPTIONS = EngineOptions(check_integrity=True, num_blocks=128, block_size=16, max_num_seqs=16, max_step_tokens=64)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture], Path]:
    """The path of a small random model of an architecture, written once."""
    written: dict[str, Path] = {}

    def path(architecture: Architecture) -> Path:
        if architecture not in written:
            folder = tmp_path_factory.mktemp(architecture)
            written[architecture] = write_checkpoint(folder, architecture=architecture, head_dim=32, hidden=96)
        return written[architecture]

    return path


@pytest.fixture
def engine(checkpoint: Callable[[Architecture], Path]) -> NativeEngine:
    """A fresh native engine on a small Llama, its pool checked after every step."""
    return load_native(checkpoint("llama"), OPTIONS)
