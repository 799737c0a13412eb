"""Tokens chosen by the kernels are those chosen by numpy, which are those that the settings ask for."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from coxswain_kernels.sampling import sampling as op
from coxswain_kernels.sampling.sampling import Settings


@pytest.mark.parametrize("vocab", [5, 300, 4097])
@pytest.mark.parity("sampling")
def test_the_kernels_choose_as_numpy_does(vocab: int, device: str) -> None:
    logits = torch.randn(8, vocab, device=device) * 4
    # Half of them with many that are equally likely.
    logits[::2] = logits[::2].round()
    settings = _settings(
        device,
        temperature=[1.0, 0.7, 1.0, 1.5, 0.0, 1.0, 0.3, 2.0],
        top_k=[0, 3, 4, 20, 0, 0, 10**6, 2],
        top_p=[1.0, 1.0, 0.9, 0.95, 0.5, 0.3, 0.99, 0.0],
        min_p=[0.0, 0.0, 0.0, 0.1, 0.0, 0.05, 1.0, 0.5],
    )
    wanted = op.reference(logits.cpu(), _cpu(settings)).tolist()
    assert op.launch(logits, settings).tolist() == wanted
    assert op.sample(logits, settings).tolist() == wanted


@pytest.mark.parity("sampling")
def test_logits_that_are_no_numbers(device: str) -> None:
    inf, nan = float("inf"), float("nan")
    rows = [[-inf] * 4, [nan, 1.0, 1.0, -inf], [nan] * 4, [0.0, inf, -inf, inf], [1e38, -3e38, 0.0, 1e38]]
    logits = torch.tensor(rows, device=device)
    greedy, drawn = _settings(device, temperature=[0.0] * 5), _settings(device, temperature=[1.0] * 5, top_p=[0.9] * 5)
    assert op.launch(logits, greedy).tolist() == [0, 1, 0, 1, 0]
    got = op.launch(logits, drawn).tolist()
    assert got == op.reference(logits.cpu(), _cpu(drawn)).tolist()
    assert all(token in allowed for token, allowed in zip(got, [[0], [1, 2], [0], [1, 3], [0, 3]], strict=True))


@pytest.mark.parity("sampling")
def test_rows_may_lie_apart_and_there_may_be_none(device: str) -> None:
    wide = torch.randn(4, 64, device=device)
    settings = _settings(device, temperature=[1.0, 1.0], top_k=[5, 0])
    assert torch.equal(op.launch(wide[::2, :50], settings), op.launch(wide[::2, :50].contiguous(), settings))
    assert op.launch(wide[:0], _settings(device, temperature=[])).shape == (0,)


@pytest.mark.invariant("sampling")
def test_a_row_has_the_same_token_in_every_company(device: str) -> None:
    logits = torch.randn(4, 200, device=device)
    settings = _settings(device, temperature=[1.0, 0.0, 2.0, 1.0], top_k=[0, 0, 9, 40], top_p=[1.0, 1.0, 0.9, 0.8])
    together = op.launch(logits, settings)
    for row in range(4):
        alone = Settings(**{field.name: getattr(settings, field.name)[row : row + 1] for field in fields(settings)})
        assert torch.equal(op.launch(logits[row : row + 1], alone), together[row : row + 1])


def test_truncation_keeps_what_a_sort_keeps() -> None:
    random = np.random.default_rng(0)
    for case in range(200):
        logits = (random.normal(size=60) * 3).astype(np.float32)
        # Steps of a halving, so that many are equally likely, and weights are powers of 2.
        logits = (np.round(logits) * np.log(2)).astype(np.float32)
        top_k, top_p = int(random.integers(0, 60)), float(np.float32(random.choice([1.0, 0.9, 0.5, 0.1])))
        min_p = float(random.choice([0.0, 0.3, 0.01]))
        distance = op.distances(logits, 1.0)
        got = distance <= op.furthest(distance, top_k, top_p, min_p)
        weights = 2.0 ** -np.round(distance / 2**18)
        assert got.tolist() == (weights >= _least(weights, top_k, top_p, min_p)).tolist(), case


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    probabilities = np.array([0.4, 0.3, 0.2, 0.08, 0.02])
    draws = 5_000
    logits = torch.from_numpy(np.log(probabilities).astype(np.float32)).expand(draws, 5)
    settings = _settings("cpu", temperature=[1.0] * draws)
    counts = torch.bincount(op.reference(logits, settings), minlength=5).numpy()
    # Chi-square of four degrees of freedom: above 18.5 once in a thousand seeds.
    assert (((counts - draws * probabilities) ** 2) / (draws * probabilities)).sum() < 18.5


@pytest.mark.parity("sampling")
def test_what_does_not_fit_is_refused(device: str) -> None:
    logits, settings = torch.zeros(2, 8, device=device), _settings(device, temperature=[1.0, 1.0])
    with pytest.raises(ValueError, match="logits is float16, wanted float32"):
        op.launch(logits.half(), settings)
    with pytest.raises(ValueError, match=r"temperature has shape \[2\], wanted \[1\]"):
        op.launch(logits[:1], settings)
    with pytest.raises(ValueError, match="seeds is int32, wanted int64"):
        op.launch(logits, replace(settings, seeds=settings.seeds.int()))
    with pytest.raises(ValueError, match=r"temperature\[1\] is -1, wanted 0 or more"):
        op.sample(logits, _settings(device, temperature=[1.0, -1.0]))
    with pytest.raises(ValueError, match=r"top_p\[0\] is 1.5, wanted 0 to 1"):
        op.sample(logits, _settings(device, temperature=[1.0, 1.0], top_p=[1.5, 1.0]))
    with pytest.raises(ValueError, match="logits are of 0 tokens, wanted 1 to 1048576"):
        op.sample(logits[:, :0], settings)


def _least(weights: np.ndarray, top_k: int, top_p: float, min_p: float) -> float:
    """The least weight that is kept, by the rules as the engine's sampler has them."""
    ranked = np.sort(weights)[::-1]
    kept = min(int((ranked >= min_p).sum()), top_k or ranked.shape[0])
    sums = ranked.cumsum()
    kept = min(kept, int((sums < sums[kept - 1] * top_p).sum()) + 1)
    return float(ranked[kept - 1])


def _settings(device: str, *, temperature: list[float], **others: list[float]) -> Settings:
    rows = len(temperature)
    given: dict[str, list[float]] = {"top_k": [0] * rows, "top_p": [1.0] * rows, "min_p": [0.0] * rows}
    given |= {"seeds": [7] * rows, "positions": list(range(rows)), "temperature": temperature}
    given |= others
    return Settings(**{name: torch.tensor(given[name], dtype=op.DTYPES[name], device=device) for name in given})


def _cpu(settings: Settings) -> Settings:
    return Settings(**{field.name: getattr(settings, field.name).cpu() for field in fields(settings)})
