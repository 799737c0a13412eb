"""Products, norms, writes and samples on a GPU, against float64 on random shapes; bits of rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from coxswain_kernels.cache import kv_write
from coxswain_kernels.cache.kv_cache import KVCache
from coxswain_kernels.elementwise import rms_norm, silu_mul
from coxswain_kernels.elementwise.rotary import rotary, rotary_tables
from coxswain_kernels.matrices import linear, lora, quantised_linear
from coxswain_kernels.matrices.matmul import DTYPES
from coxswain_kernels.matrices.quantised_weights import DTYPES as HALVES
from coxswain_kernels.matrices.quantised_weights import pack, unpack
from coxswain_kernels.moe import experts
from coxswain_kernels.sampling import sampling
from tests.kernels.gpu.ragged import error, tolerance

SEEDS = pytest.mark.parametrize("seed", range(3))
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES)
EITHER = pytest.mark.parametrize("kind", ["fast", "invariant"])
MOST_ROWS = 700
WIDTH = 1024


def _rows(seed: int) -> int:
    return random.Random(seed).choice([1, 15, 16, 17, 33, 64, 65, 129, MOST_ROWS])


def _same_alone(run: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A row has the same bits alone, in any part of the batch and in any order."""
    together = run(x)
    rows = x.shape[0]
    for row in {0, rows // 2, rows - 1}:
        assert torch.equal(run(x[row : row + 1]), together[row : row + 1])
    assert torch.equal(run(x[rows // 3 :]), together[rows // 3 :])
    assert torch.equal(run(x.flip(0)), together.flip(0))


@EACH_DTYPE
@SEEDS
def test_linear(dtype: torch.dtype, seed: int) -> None:
    for columns in (WIDTH, 8 * WIDTH):
        x, weight = torch.randn(_rows(seed), WIDTH).to(dtype), (torch.randn(WIDTH, columns) / WIDTH**0.5).to(dtype)
        assert error(linear.launch(x, weight), x.double() @ weight.double()) < tolerance(dtype)
        _same_alone(partial(linear.launch, weight=weight), x)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", [4, 8])
@EITHER
@SEEDS
def test_quantised_linear(dtype: torch.dtype, bits: int, kind: quantised_linear.Kind, seed: int) -> None:
    weight = pack((torch.randn(2 * WIDTH, WIDTH) / WIDTH**0.5).to(dtype), bits=bits)
    x = torch.randn(_rows(seed), 2 * WIDTH).to(dtype)
    got = quantised_linear.launch(x, weight, kind=kind)
    assert error(got, x.double() @ unpack(weight).double()) < tolerance(dtype)
    if kind == "invariant":
        _same_alone(lambda some: quantised_linear.launch(some, weight, kind="invariant"), x)


@EACH_DTYPE
@EITHER
@SEEDS
def test_experts(dtype: torch.dtype, kind: experts.Kind, seed: int) -> None:
    rows, count, hidden, inner = _rows(seed), 8, WIDTH // 2, WIDTH // 4
    x, weights = torch.randn(rows, hidden).to(dtype), torch.rand(rows, 2)
    chosen = torch.rand(rows, count).argsort(-1)[:, :2].int()
    gate_up, down = torch.randn(count, hidden, 2 * inner) / hidden**0.5, torch.randn(count, inner, hidden) / inner**0.5
    given = (gate_up.to(dtype), down.to(dtype))
    wanted = torch.zeros(rows, hidden, dtype=torch.float64)
    for rank in range(2):
        gate, up = torch.einsum("rh,rhi->ri", x.double(), given[0].double()[chosen[:, rank].long()]).chunk(2, -1)
        part = torch.nn.functional.silu(gate) * up
        part = torch.einsum("ri,rih->rh", part, given[1].double()[chosen[:, rank].long()])
        wanted += weights[:, rank, None].double() * part
    assert error(experts.launch(x, weights, chosen, *given, kind=kind), wanted) < 2 * tolerance(dtype)


@EACH_DTYPE
@SEEDS
def test_lora(dtype: torch.dtype, seed: int) -> None:
    ranks, rows = (8, 0, 64, 5), _rows(seed)
    adapters = lora.Adapters(
        down=(torch.randn(sum(ranks), WIDTH) / WIDTH**0.5).to(dtype),
        up=torch.randn(sum(ranks), WIDTH // 2).to(dtype),
        starts=torch.tensor([0, *ranks]).cumsum(0).int(),
        scales=torch.tensor([0.5, 1.0, 2.0, 1.5]),
        max_rank=64,
    )
    adapters.check()
    x, y, index = torch.randn(rows, WIDTH).to(dtype), torch.zeros(rows, WIDTH // 2).to(dtype), torch.arange(rows) % 5
    wanted = torch.zeros(rows, WIDTH // 2, dtype=torch.float64)
    starts = adapters.starts.tolist()
    for adapter, scale in enumerate(adapters.scales.tolist()):
        mine, place = index == adapter, slice(starts[adapter], starts[adapter + 1])
        wanted[mine] = scale * (x[mine].double() @ adapters.down[place].double().t()) @ adapters.up[place].double()
    got = lora.launch(y, x, adapters, lora.sort_rows(index.int(), adapters))
    assert float((got.double() - wanted).norm()) <= 2 * tolerance(dtype) * float(wanted.norm())


@EACH_DTYPE
@SEEDS
def test_norm_and_activation(dtype: torch.dtype, seed: int) -> None:
    x, weight = torch.randn(_rows(seed), WIDTH).to(dtype), torch.randn(WIDTH).to(dtype)
    wide = x.double()
    normal = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert error(rms_norm.launch(x, weight, 1e-5), normal) < tolerance(dtype)
    _same_alone(lambda some: rms_norm.launch(some, weight, 1e-5), x)
    gate, up = wide.chunk(2, -1)
    assert error(silu_mul.launch(x), torch.nn.functional.silu(gate) * up) < tolerance(dtype)
    _same_alone(silu_mul.launch, x)


@EACH_DTYPE
@SEEDS
def test_rotated_keys_and_queries(dtype: torch.dtype, seed: int) -> None:
    tokens, blocks = _rows(seed), 100
    query, key, value = (torch.randn(tokens, heads, 128).to(dtype) for heads in (8, 2, 2))
    slots, positions = torch.randperm(blocks * 16)[:tokens], torch.randint(4096, (tokens,))
    cache = KVCache(*(torch.zeros(blocks, 16, 2, 128, dtype=dtype) for _ in range(2)))
    cos, sin = (table.to(dtype) for table in rotary_tables(head_dim=128, theta=5e5, positions=4096))
    given = kv_write.Tokens(query=query, key=key, value=value, positions=positions, slots=slots)
    got = kv_write.launch(given, cos, sin, cache)
    table = cos[positions].double(), sin[positions].double()
    assert error(got, rotary(query.double(), *table)) < tolerance(dtype)
    assert error(cache.keys.flatten(0, 1)[slots], rotary(key.double(), *table)) < tolerance(dtype)
    assert torch.equal(cache.values.flatten(0, 1)[slots], value)


@SEEDS
def test_tokens_are_those_that_numpy_chooses(seed: int) -> None:
    torch.manual_seed(seed)
    rows, vocab = 16, 128 * WIDTH + 256
    logits = torch.randn(rows, vocab) * 4
    given = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "min_p": 0.02, "seeds": seed, "positions": 3}
    settings = {name: torch.full((rows,), value, dtype=sampling.DTYPES[name]) for name, value in given.items()}
    settings["top_k"][::3], settings["temperature"][1::4] = 0, 0.0
    chosen = sampling.launch(logits, sampling.Settings(**settings))
    there = sampling.Settings(**{name: tensor.cpu() for name, tensor in settings.items()})
    assert chosen.tolist() == sampling.reference(logits.cpu(), there).tolist()
