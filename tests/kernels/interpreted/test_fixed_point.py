"""Integers stand for the functions that they should, and kernels have the same ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from coxswain_kernels.sampling import fixed_point as op


@triton.jit
def _logarithms(x, out, N: tl.constexpr, LOG2: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, op.log2(tl.load(x + n), LOG2))


@triton.jit
def _weights(x, out, N: tl.constexpr, EXP2: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, op.weight(tl.load(x + n), EXP2))


@triton.jit
def _words(seeds, positions, out, N: tl.constexpr):
    row, n = tl.program_id(0), tl.arange(0, N)
    tl.store(out + row * N + n, op.word(tl.load(seeds + row), tl.load(positions + row), n).to(tl.int64))


@triton.jit
def _exponentials(x, out, N: tl.constexpr, LOG2: tl.constexpr, RACE: tl.constexpr):
    n = tl.arange(0, N)
    tl.store(out + n, op.exponential(tl.load(x + n).to(tl.uint64), LOG2, RACE))


def test_logarithms(device: str) -> None:
    x = np.exp2(np.random.default_rng(0).uniform(-60, 60, 4096)).astype(np.float32)
    x[:4] = 1, 2, 0.25, 2**30
    got = op.log2_of(x)
    assert got[:4].tolist() == [0, 1 << 24, -2 << 24, 30 << 24]
    np.testing.assert_allclose(got / 2**24, np.log2(x.astype(np.float64)), rtol=0, atol=2**-18)
    out = torch.empty(4096, dtype=torch.int32, device=device)
    _logarithms[(1,)](torch.from_numpy(x).to(device), out, 4096, op.LOG2)
    assert out.tolist() == got.tolist()


def test_weights(device: str) -> None:
    distance = np.random.default_rng(0).integers(0, 2**24, 4096)
    distance[:3] = 0, 1 << 18, 40 << 18
    got = op.weight_of(distance)
    assert got[:3].tolist() == [1 << 32, 1 << 31, 0]
    near = distance < 8 << 18
    np.testing.assert_allclose(got[near], np.exp2(32 - distance[near] / 2**18), rtol=2**-20)
    out = torch.empty(4096, dtype=torch.int64, device=device)
    _weights[(1,)](torch.from_numpy(distance.astype(np.int32)).to(device), out, 4096, op.EXP2)
    assert out.tolist() == got.tolist()


def test_exponentials(device: str) -> None:
    words = np.random.default_rng(0).integers(0, 2**64, 8192, dtype=np.uint64)
    words[:4096] >>= np.arange(4096, dtype=np.uint64) % 64
    words[:8] = [0, 1, 2**63, 2**63 - 1, 2**64 - 1, 2**64 - 2048, 2**53, 2**11]
    words[2048:4096] = ~words[2048:4096]
    got = op.exponentials_of(words)
    out = torch.empty(8192, dtype=torch.int32, device=device)
    _exponentials[(1,)](torch.from_numpy(words.view(np.int64)).to(device), out, 8192, op.LOG2, op.RACE)
    assert out.tolist() == got.tolist()
    v = ((words >> np.uint64(11)) | np.uint64(1)).astype(np.float64) / 2**53
    np.testing.assert_allclose(got / 2**24, np.log2(-np.log1p(-v) / np.log(2)), rtol=0, atol=2**-17)


@pytest.mark.parametrize(("seed", "position"), [(0, 0), (-1, 7), (2**63 - 1, 10**9)])
def test_words(seed: int, position: int, device: str) -> None:
    words = op.words_of(seed, position, 512)
    seeds, positions = (torch.tensor([number], dtype=torch.int64, device=device) for number in (seed, position))
    out = torch.empty(1, 512, dtype=torch.int64, device=device)
    _words[(1,)](seeds, positions, out, 512)
    assert out[0].tolist() == words.view(np.int64).tolist()
    assert len(set(words.tolist())) == 512


def test_words_are_of_a_seed_and_a_position() -> None:
    assert op.words_of(5, 3, 8)[:4].tolist() == op.words_of(5, 3, 4).tolist()
    everywhere = [op.words_of(seed, position, 64) for seed in (0, 1) for position in (0, 1, 2)]
    assert len(set(np.concatenate(everywhere).tolist())) == 6 * 64
