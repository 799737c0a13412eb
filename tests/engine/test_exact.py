"""A row's logits depend on its own tokens only, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coxswain_scheduler.batching import Batcher, BlockPool, Limits, TokenSequence, check_batcher
from coxswain_workers.engine.interface import EngineOptions
from coxswain_workers.engine.native import load_native
from coxswain_workers.engine.rows import BUCKETS, Rows, safe_rows
from coxswain_workers.engine.selfcheck import arrange_exact, is_exact
from coxswain_workers.engine.torch_runner import Arrangement, TorchRunner
from tests.checkpoints import Architecture, write_checkpoint
from tests.engine.conftest import OPTIONS
from tests.engine.driving import complete, request

ARCHITECTURES: tuple[Architecture, ...] = ("llama", "qwen2", "qwen3")
BLOCK = 16


@pytest.fixture(scope="session")
def runner_of(checkpoint: Callable[[Architecture], Path]) -> Callable[[Architecture], TorchRunner]:
    @cache
    def runner(architecture: Architecture) -> TorchRunner:
        engine = load_native(checkpoint(architecture), OPTIONS)
        assert "exact" in engine.info.features
        assert isinstance(engine._runner, TorchRunner)
        return engine._runner

    return runner


@dataclass(frozen=True)
class Company:
    """How some texts are run: how much of each is given as prompt, at what limits, in what order."""

    texts: list[list[int]]
    prompts: list[int]
    max_num_seqs: int
    max_step_tokens: int


# Few distinct tokens and shared beginnings, so that texts meet each other's blocks in the prefix cache.
BEGINNINGS = [[(11 * place + 5 * version) % 384 for place in range(60)] for version in range(3)]
TEXTS = st.builds(
    lambda version, kept, rest: BEGINNINGS[version][:kept] + rest,
    st.integers(0, 2),
    st.integers(0, 60),
    st.lists(st.integers(0, 383), min_size=1, max_size=30),
)


@st.composite
def companies(draw: st.DrawFn) -> Company:
    texts = draw(st.lists(TEXTS, min_size=1, max_size=10))
    prompts = [draw(st.integers(max(1, len(text) - 8), len(text))) for text in texts]
    max_num_seqs = draw(st.integers(1, 10))
    return Company(texts, prompts, max_num_seqs, draw(st.integers(max_num_seqs, 80)))


def run(runner: TorchRunner, company: Company) -> Iterator[tuple[int, int, torch.Tensor]]:
    """(text, tokens so far, logits of the next one) for every position that is sampled."""
    limits = Limits(max_num_seqs=company.max_num_seqs, max_step_tokens=company.max_step_tokens)
    batcher: Batcher[TokenSequence] = Batcher(pool=BlockPool(size=runner.num_blocks), block_size=BLOCK, limits=limits)
    for index, (text, prompt) in enumerate(zip(company.texts, company.prompts, strict=True)):
        batcher.add(TokenSequence(str(index), prompt=text[:prompt], block_size=BLOCK))
    while batcher.has_work():
        batch = batcher.schedule()
        check_batcher(batcher, batch)
        logits = iter(runner.run(batch.entries))
        batcher.commit(batch)
        for sequence in [entry.sequence for entry in batch.entries if entry.samples]:
            text, length = company.texts[int(sequence.id)], len(sequence.tokens)
            yield int(sequence.id), length, next(logits)
            if length == len(text):
                batcher.remove(sequence.id)
            else:
                sequence.append(text[length])


def alone(runner: TorchRunner, tokens: list[int]) -> torch.Tensor:
    """Logits after `tokens`, prefilled in one go, in a pool of their own."""
    company = Company([tokens], [len(tokens)], 1, len(tokens))
    return next(run(runner, company))[2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(deadline=None, max_examples=30)
@given(company=companies())
def test_logits_are_the_same_bits_in_any_company(
    runner_of: Callable[[Architecture], TorchRunner], architecture: Architecture, company: Company
) -> None:
    runner = runner_of(architecture)
    for text, length, logits in list(run(runner, company)):  # `alone` writes over the same blocks
        assert torch.equal(logits, alone(runner, company.texts[text][:length]))


def test_the_check_at_start_up_refuses_arithmetic_that_looks_at_neighbours(
    runner_of: Callable[[Architecture], TorchRunner],
) -> None:
    runner = runner_of("llama")
    kept = runner.arrangement
    try:
        runner.arrangement = Arrangement(body=Rows(1), head=Rows(1), attention_rows=1)
        assert not is_exact(runner), "single rows take another kernel, which adds in another order"
        assert arrange_exact(runner) == kept
    finally:
        runner.arrangement = kept


def test_safe_rows_finds_the_range_in_which_a_layer_does_not_look_at_the_batch() -> None:
    samples = torch.randn(BUCKETS[-1], 8)
    picky = safe_rows(lambda x: x + (0.0 if 12 <= len(x) <= 128 else 1e-3), samples)
    assert picky == Rows(12, 128)
    assert [picky.padded(rows) for rows in (0, 1, 13, 128, 129, 200, 300)] == [0, 12, 16, 128, 140, 224, 304]
    assert safe_rows(lambda x: x + x.mean(), samples) is None


ROOT = Path(__file__).parents[2]

OTHER_PROCESS = """
import sys
from coxswain_workers.engine.interface import EngineOptions
from coxswain_workers.engine.native import load_native
from tests.engine.driving import complete, request
engine = load_native(sys.argv[1], EngineOptions(num_blocks=99, block_size=16, max_num_seqs=2, max_step_tokens=9))
print(complete(engine, *(request(str(i), range(i, 40), seed=i, temperature=1.0, logprobs=2) for i in range(5))))
"""


def test_another_process_computes_the_same_bits(checkpoint: Callable[[Architecture], Path]) -> None:
    path = checkpoint("llama")
    requests = [request(str(index), range(index, 40), seed=index, temperature=1.0, logprobs=2) for index in range(5)]
    here = complete(load_native(path, OPTIONS), *requests)
    command = [sys.executable, "-c", OTHER_PROCESS, str(path)]
    there = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    assert there.strip() == repr(here)


def test_fast_arithmetic_does_not_claim_to_be_exact(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    engine = load_native(path, EngineOptions(arithmetic="fast", num_blocks=16, threads=1))
    assert "exact" not in engine.info.features
    assert complete(engine, request("a", [5, 6, 7], max_tokens=3))["a"].finish is not None
