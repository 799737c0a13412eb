"""Decode attention by the kernels is that by torch, and that of a sequence alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from coxswain_kernels.attention import paged_decode as op
from coxswain_kernels.attention.sequences import Cache
from tests.kernels.interpreted.caches import BF16, DTYPES, E4M3, F16, INT8, assert_near, made_cache, part

EITHER = pytest.mark.parametrize("invariant", [False, True], ids=["fast", "invariant"])


def _query(cache: Cache, dtype: torch.dtype, *, group: int = 2) -> torch.Tensor:
    _, _, kv_heads, head_dim = cache.keys.shape
    return torch.randn(len(cache.contexts), kv_heads * group, head_dim).to(cache.keys.device, dtype)


@DTYPES
@EITHER
@pytest.mark.parity("paged_decode")
def test_it_is_what_torch_computes(dtype: torch.dtype, stored: torch.dtype, invariant: bool, device: str) -> None:
    cache = made_cache([1, 0, 260], dtype=stored, kv_heads=1, device=device)
    query = _query(cache, dtype)
    wanted = op.reference(query, cache, scale=0.125)
    assert_near(op.launch(query, cache, scale=0.125, invariant=invariant), wanted)
    assert not wanted[1].any()


@EITHER
@pytest.mark.parametrize(("head_dim", "block_size", "group"), [(128, 16, 5), (64, 32, 1)])
@pytest.mark.parity("paged_decode")
def test_other_shapes(head_dim: int, block_size: int, group: int, invariant: bool, device: str) -> None:
    cache = made_cache([33], dtype=BF16, kv_heads=1, head_dim=head_dim, block_size=block_size, device=device)
    query = _query(cache, BF16, group=group)
    got = op.launch(query, cache, scale=0.1, invariant=invariant)
    assert_near(got, op.reference(query, cache, scale=0.1))


@pytest.mark.parity("paged_decode")
def test_no_sequences(device: str) -> None:
    cache = made_cache([], device=device)
    for invariant in (False, True):
        assert op.launch(_query(cache, torch.float32), cache, scale=1.0, invariant=invariant).shape == (0, 4, 64)


@pytest.mark.parity("paged_decode")
def test_tensors_may_be_parts_of_larger_ones(device: str) -> None:
    cache = made_cache([5, 40], dtype=F16, device=device)
    both = torch.stack((cache.keys, cache.values), 1)
    tables = torch.cat((cache.tables, cache.tables), 1)[:, : cache.tables.shape[1]]
    apart = replace(cache, keys=both[:, 0], values=both[:, 1], tables=tables)
    query = torch.randn(2, 10, 64, dtype=F16, device=device)[:, 2:6]
    got = op.launch(query, apart, scale=0.125, invariant=False)
    assert_near(got, op.reference(query.contiguous(), cache, scale=0.125))


@pytest.mark.parity("paged_decode")
def test_without_the_type_e4m3_is_taken_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = made_cache([70], dtype=E4M3)
    cache.keys.view(torch.uint8).random_(0, 127)  # of every size, and above all subnormal
    query = _query(cache, BF16)
    known = op.launch(query, cache, scale=0.125, invariant=True)
    monkeypatch.setattr("coxswain_kernels.attention.sequences.target_of", lambda device: "sm_80")
    assert cache.layout(query).stored == torch.uint8
    assert torch.equal(op.launch(query, cache, scale=0.125, invariant=True), known)


@DTYPES
@pytest.mark.invariant("paged_decode")
def test_a_sequence_has_the_same_bits_in_every_company(dtype: torch.dtype, stored: torch.dtype, device: str) -> None:
    cache = made_cache([513, 1, 70], dtype=stored, kv_heads=1, device=device)
    query = _query(cache, dtype, group=2)
    together = op.launch(query, cache, scale=0.125, invariant=True)
    for chosen in ([1], [2, 0]):
        longest = int(cache.contexts[chosen].max())
        some = op.launch(query[chosen], part(cache, chosen), scale=0.125, invariant=True, longest=longest)
        assert torch.equal(some, together[chosen])
    assert_near(together, op.reference(query, cache, scale=0.125))


@pytest.mark.invariant("paged_decode")
def test_one_plan_serves_every_batch() -> None:
    plans = {op.plan(made_cache([context] * 2).layout(torch.zeros(2, 4, 64))).name for context in (1, 100)}
    assert len(plans) == 1
    assert op.plan(made_cache([9]).layout(torch.zeros(1, 4, 64))).batch >= {"piece", "splits", "slots", "table_stride"}


@pytest.mark.parametrize("rows", [8, 64, 256, 512, 2048])
def test_a_fast_launch_fills_the_device_with_as_few_pieces_as_can_be(rows: int) -> None:
    splits = op.fast_splits(rows, 1 << 20, 396)
    waves = rows * splits / 396
    assert 0.85 < waves / math.ceil(waves) <= 1
    assert op.fast_splits(rows, 200, 396) == 1


@pytest.mark.parity("paged_decode")
def test_what_does_not_fit_is_refused() -> None:
    cache, query = made_cache([5, 40]), torch.zeros(2, 4, 64)

    def refused(match: str, query: torch.Tensor = query, cache: Cache = cache) -> None:
        with pytest.raises(ValueError, match=match):
            op.launch(query, cache, scale=1.0, invariant=True)

    refused(r"contexts has shape \[2\], wanted \[3\]", query=torch.zeros(3, 4, 64))
    refused(r"query has shape \[2, 4, 32\], wanted \[any, any, 64\]", query=torch.zeros(2, 4, 32))
    refused("query has 5 heads for 2 of keys", query=torch.zeros(2, 5, 64))
    refused("keys is float32, wanted bfloat16 or float8_e4m3fn or int8", query=query.bfloat16())
    refused("tables is int64, wanted int32", cache=replace(cache, tables=cache.tables.long()))
    refused("values have strides|values", cache=replace(cache, values=cache.values.transpose(1, 2).contiguous()))
    refused("key_scales are given, but keys are float32", cache=replace(cache, key_scales=torch.ones(1)))
    whole = made_cache([5, 40], dtype=INT8)
    refused("value_scales are missing", query=query.bfloat16(), cache=replace(whole, value_scales=None))
    refused("head_dim is 32, wanted one of 64, 128", query=query[..., :32], cache=made_cache([5, 40], head_dim=32))
    refused("block_size is 8, wanted one of 16, 32", cache=made_cache([5, 40], block_size=8))
    with pytest.raises(ValueError, match="scale is 0, wanted more than 0"):
        op.launch(query, cache, scale=0, invariant=True)


@pytest.mark.parity("paged_decode")
def test_the_checked_entry_point_looks_at_places() -> None:
    cache, query = made_cache([5, 40]), torch.randn(2, 4, 64)

    def call(tables: torch.Tensor, contexts: torch.Tensor) -> torch.Tensor:
        return op.checked_paged_decode(query, cache.keys, cache.values, tables, contexts, scale=0.125, invariant=True)

    assert torch.equal(call(cache.tables, cache.contexts), op.reference(query, cache, scale=0.125))
    wrong = cache.tables.clone()
    wrong[1, 2] = 99
    with pytest.raises(ValueError, match=r"tables\[1, 2\] is 99, wanted an index from 0 to 6"):
        call(wrong, cache.contexts)
    with pytest.raises(ValueError, match=r"contexts\[0\] is 65, its table has room for 64 tokens"):
        call(cache.tables, torch.tensor([65, 40], dtype=torch.int32))
