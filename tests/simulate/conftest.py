"""The mocked engine of NVIDIA Dynamo, whose timing the figures in these tests were measured with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coxswain_scheduler.costs.polynomial import PolynomialTiming
from coxswain_scheduler.simulator.setup import EngineSpec

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
CONVERSATION = DATA / "mooncake_fast25" / "conversation_trace.jsonl.gz"

MOCKER: dict[str, Any] = {
    "prefill": {"a": 4.209989e-07, "b": 0.01518344, "c": 16.50142},
    "decode": {"a": -25.74, "b": 54.01, "c": 5.74},
    "num_gpu_blocks": 16384,
    "block_size": 64,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
}


@pytest.fixture(scope="session")
def mocker() -> EngineSpec:
    return EngineSpec(timing=PolynomialTiming.from_mapping(MOCKER))


@pytest.fixture
def timing_file(tmp_path: Path) -> Path:
    path = tmp_path / "timing.json"
    path.write_text(json.dumps(MOCKER))
    return path
