"""Kernels as they are compiled: what the interpreter cannot show."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def device() -> Iterator[torch.device]:
    """The GPU, where all tensors of a test are made; without one, the test is skipped."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET is 1: kernels would be interpreted")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    torch.manual_seed(0)
    with torch.device("cuda"):
        yield torch.device("cuda")
