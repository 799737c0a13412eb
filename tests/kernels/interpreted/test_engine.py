"""The native engine's batches by the kernels: the logits of the torch bodies, and the same bits in every company."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from coxswain_scheduler.batching import Batcher, BlockPool, Limits, TokenSequence
from coxswain_workers.engine.config import read_config
from coxswain_workers.engine.decode_graphs import Rows, padded
from coxswain_workers.engine.model import Model, load_model
from coxswain_workers.engine.torch_runner import TorchRunner
from coxswain_workers.engine.triton_runner import TritonRunner
from tests.checkpoints import write_checkpoint

BLOCK = 16
TEXTS = [[(7 * place + 31 * text) % 256 for place in range(length)] for text, length in enumerate((20, 5, 18))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, device_name: str) -> Model:
    """The smallest with every part: the interpreter takes its time."""
    path = write_checkpoint(
        tmp_path_factory.mktemp("model"),
        architecture="qwen3",
        head_dim=64,
        hidden=64,
        heads=2,
        kv_heads=1,
        intermediate=64,
        vocab_size=260,
    )
    return load_model(path, read_config(path), positions=32, dtype=torch.float32, device=device_name)


def logits(
    runner: TorchRunner | TritonRunner, texts: list[list[int]], *, prompt: int, step_tokens: int
) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
    """(tokens, logits of the next one) for texts of which `prompt` tokens are prefilled and the others decoded."""
    limits = Limits(max_num_seqs=len(texts), max_step_tokens=step_tokens)
    batcher: Batcher[TokenSequence] = Batcher(pool=BlockPool(size=runner.num_blocks), block_size=BLOCK, limits=limits)
    for name, text in enumerate(texts):
        batcher.add(TokenSequence(str(name), prompt=text[:prompt], block_size=BLOCK))
    while batcher.has_work():
        batch = batcher.schedule()
        rows = iter(runner.run(batch.entries))
        batcher.commit(batch)
        for sequence in [entry.sequence for entry in batch.entries if entry.samples]:
            yield tuple(sequence.tokens), next(rows)
            text = texts[int(sequence.id)]
            if len(sequence.tokens) == len(text):
                batcher.remove(sequence.id)
            else:
                sequence.append(text[len(sequence.tokens)])


@pytest.mark.parametrize("invariant", [False, True])
def test_logits_are_those_of_the_torch_bodies(model: Model, invariant: bool) -> None:
    by_torch = TorchRunner(model, num_blocks=16, block_size=BLOCK)
    by_kernels = TritonRunner(model, num_blocks=16, block_size=BLOCK, invariant=invariant)
    expected = dict(logits(by_torch, TEXTS, prompt=18, step_tokens=16))
    for tokens, got in logits(by_kernels, TEXTS, prompt=18, step_tokens=16):
        torch.testing.assert_close(got, expected[tokens], rtol=1e-4, atol=1e-4)


def test_a_token_has_the_same_bits_alone_and_in_company_in_chunks_and_decoded(model: Model) -> None:
    runner = TritonRunner(model, num_blocks=16, block_size=BLOCK, invariant=True)
    together = dict(logits(runner, TEXTS, prompt=18, step_tokens=13))
    for text in TEXTS:
        ((tokens, alone),) = logits(runner, [text], prompt=len(text), step_tokens=64)
        assert torch.equal(alone, together[tokens])


class PaddedRunner(TritonRunner):
    """Decodes as it would for a graph."""

    widths: set[tuple[int, int]]

    def compute(self, rows: Rows) -> torch.Tensor:
        if rows.decodes < rows.ids.shape[0]:
            return super().compute(rows)
        wide = padded(rows, block_size=BLOCK)
        self.widths.add((wide.ids.shape[0], wide.tables.shape[1] * BLOCK))
        return super().compute(wide)[: rows.samples.shape[0]]


def test_a_batch_that_is_padded_for_a_graph_has_the_same_bits(model: Model) -> None:
    runner = PaddedRunner(model, num_blocks=16, block_size=BLOCK, invariant=True)
    runner.widths = set()
    bare = TritonRunner(model, num_blocks=16, block_size=BLOCK, invariant=True)
    texts = [text[:length] for text, length in zip(TEXTS, (6, 5, 5), strict=True)]
    expected = dict(logits(bare, texts, prompt=4, step_tokens=64))
    got = dict(logits(runner, texts, prompt=4, step_tokens=64))
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[tokens], expected[tokens]) for tokens in expected)
    assert runner.widths == {(4, 1024), (1, 1024)}
    assert torch.equal(runner.keys, bare.keys)
    assert torch.equal(runner.values, bare.values)
