"""The native engine's runner on a GPU: bits in every company, and decoding by graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from coxswain_workers.engine.config import read_config
from coxswain_workers.engine.decode_graphs import DecodeGraphs, Rows, padded
from coxswain_workers.engine.model import Model, load_model
from coxswain_workers.engine.selfcheck import is_exact
from coxswain_workers.engine.triton_runner import TritonRunner
from tests.checkpoints import write_checkpoint

BLOCK = 16


@pytest.fixture
def model(tmp_path: Path, device: torch.device) -> Model:
    path = write_checkpoint(
        tmp_path, architecture="qwen3", head_dim=128, hidden=512, heads=8, kv_heads=2, intermediate=1024
    )
    return load_model(path, read_config(path), positions=512, dtype=torch.bfloat16, device=str(device))


def _rows(runner: TritonRunner, contexts: list[int]) -> Rows:
    """Sequences that decode, in blocks of their own."""
    each = 512 // BLOCK
    tables = torch.arange(len(contexts) * each, dtype=torch.int32).view(-1, each)
    last = torch.tensor(contexts) - 1
    return Rows(
        ids=torch.randint(runner.model.config.vocab_size, (len(contexts),)),
        positions=last,
        slots=tables[torch.arange(len(contexts)), last // BLOCK].long() * BLOCK + last % BLOCK,
        tables=tables,
        contexts=torch.tensor(contexts, dtype=torch.int32),
        starts=torch.zeros(1, dtype=torch.int32),
        samples=torch.arange(len(contexts)),
        decodes=len(contexts),
        longest=max(contexts),
    )


def test_every_company_gives_the_same_bits(model: Model) -> None:
    assert is_exact(TritonRunner(model, num_blocks=256, block_size=BLOCK, invariant=True))


@torch.inference_mode()
def test_graphs_compute_what_kernels_one_by_one_compute(model: Model) -> None:
    runner = TritonRunner(model, num_blocks=256, block_size=BLOCK, invariant=True)
    runner.keys.normal_()
    runner.values.normal_()
    graphs = DecodeGraphs(runner.compute, block_size=BLOCK)
    for contexts in ([5], [300, 7, 16], [17, 1, 256, 80], [9, 33, 12], [511] * 7):
        rows = _rows(runner, contexts)
        assert graphs.takes(rows)
        assert torch.equal(graphs.run(rows), runner.compute(rows))


@torch.inference_mode()
def test_what_is_padded_is_not_written(model: Model) -> None:
    runner = TritonRunner(model, num_blocks=256, block_size=BLOCK, invariant=False)
    rows = _rows(runner, [20, 30, 40])
    runner.compute(padded(rows, block_size=BLOCK))
    written = runner.keys[0].flatten(0, 1).any(-1).any(-1).nonzero().flatten()
    assert written.tolist() == sorted(rows.slots.tolist())
