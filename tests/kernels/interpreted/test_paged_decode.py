"""Decode attention by the kernels is that by torch, and that of a sequence alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from coxswain_kernels.attention import paged_decode as op
from coxswain_kernels.attention.pages import Pages
from coxswain_kernels.cache.kv_cache import KVCache
from tests.kernels.interpreted.pages import BF16, DTYPES, E4M3, F16, INT8, assert_near, made_pages, part

EITHER = pytest.mark.parametrize("invariant", [False, True], ids=["fast", "invariant"])


def _query(pages: Pages, dtype: torch.dtype, *, group: int = 2) -> torch.Tensor:
    _, _, kv_heads, head_dim = pages.cache.keys.shape
    return torch.randn(len(pages.contexts), kv_heads * group, head_dim).to(pages.cache.keys.device, dtype)


@DTYPES
@EITHER
@pytest.mark.parity("paged_decode")
def test_it_is_what_torch_computes(dtype: torch.dtype, stored: torch.dtype, invariant: bool, device: str) -> None:
    pages = made_pages([1, 0, 260], dtype=stored, kv_heads=1, device=device)
    query = _query(pages, dtype)
    wanted = op.reference(query, pages, scale=0.125)
    assert_near(op.launch(query, pages, scale=0.125, invariant=invariant), wanted)
    assert not wanted[1].any()


@EITHER
@pytest.mark.parametrize(("head_dim", "block_size", "group"), [(128, 16, 5), (64, 32, 1)])
@pytest.mark.parity("paged_decode")
def test_other_shapes(head_dim: int, block_size: int, group: int, invariant: bool, device: str) -> None:
    pages = made_pages([33], dtype=BF16, kv_heads=1, head_dim=head_dim, block_size=block_size, device=device)
    query = _query(pages, BF16, group=group)
    got = op.launch(query, pages, scale=0.1, invariant=invariant)
    assert_near(got, op.reference(query, pages, scale=0.1))


@pytest.mark.parity("paged_decode")
def test_no_sequences(device: str) -> None:
    pages = made_pages([], device=device)
    for invariant in (False, True):
        assert op.launch(_query(pages, torch.float32), pages, scale=1.0, invariant=invariant).shape == (0, 4, 64)


@pytest.mark.parity("paged_decode")
def test_tensors_may_be_parts_of_larger_ones(device: str) -> None:
    pages = made_pages([5, 40], dtype=F16, device=device)
    both = torch.stack((pages.cache.keys, pages.cache.values), 1)
    tables = torch.cat((pages.tables, pages.tables), 1)[:, : pages.tables.shape[1]]
    apart = Pages(KVCache(both[:, 0], both[:, 1]), tables, pages.contexts)
    query = torch.randn(2, 10, 64, dtype=F16, device=device)[:, 2:6]
    got = op.launch(query, apart, scale=0.125, invariant=False)
    assert_near(got, op.reference(query.contiguous(), pages, scale=0.125))


@pytest.mark.parity("paged_decode")
def test_without_the_type_e4m3_is_taken_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = made_pages([70], dtype=E4M3)
    pages.cache.keys.view(torch.uint8).random_(0, 127)  # of every size, and above all subnormal
    query = _query(pages, BF16)
    known = op.launch(query, pages, scale=0.125, invariant=True)
    monkeypatch.setattr("coxswain_kernels.attention.pages.target_of", lambda device: "sm_80")
    assert pages.layout(query).stored == torch.uint8
    assert torch.equal(op.launch(query, pages, scale=0.125, invariant=True), known)


@DTYPES
@pytest.mark.invariant("paged_decode")
def test_a_sequence_has_the_same_bits_in_every_company(dtype: torch.dtype, stored: torch.dtype, device: str) -> None:
    pages = made_pages([513, 1, 70], dtype=stored, kv_heads=1, device=device)
    query = _query(pages, dtype, group=2)
    together = op.launch(query, pages, scale=0.125, invariant=True)
    for chosen in ([1], [2, 0]):
        longest = int(pages.contexts[chosen].max())
        some = op.launch(query[chosen], part(pages, chosen), scale=0.125, invariant=True, longest=longest)
        assert torch.equal(some, together[chosen])
    assert_near(together, op.reference(query, pages, scale=0.125))


@pytest.mark.invariant("paged_decode")
def test_one_plan_serves_every_batch() -> None:
    plans = {op.plan(made_pages([context] * 2).layout(torch.zeros(2, 4, 64))).name for context in (1, 100)}
    assert len(plans) == 1
    assert op.plan(made_pages([9]).layout(torch.zeros(1, 4, 64))).batch >= {"piece", "splits", "slots", "table_stride"}


@pytest.mark.parametrize("rows", [8, 64, 256, 512, 2048])
def test_a_fast_launch_fills_the_device_with_as_few_pieces_as_can_be(rows: int) -> None:
    splits = op.fast_splits(rows, 1 << 20, 396)
    waves = rows * splits / 396
    assert 0.85 < waves / math.ceil(waves) <= 1
    assert op.fast_splits(rows, 200, 396) == 1


@pytest.mark.parity("paged_decode")
def test_what_does_not_fit_is_refused() -> None:
    pages, query = made_pages([5, 40]), torch.zeros(2, 4, 64)
    cache = pages.cache

    def refused(match: str, query: torch.Tensor = query, pages: Pages = pages, cache: KVCache = cache) -> None:
        with pytest.raises(ValueError, match=match):
            op.launch(query, replace(pages, cache=cache), scale=1.0, invariant=True)

    refused(r"contexts has shape \[2\], wanted \[3\]", query=torch.zeros(3, 4, 64))
    refused(r"query has shape \[2, 4, 32\], wanted \[any, any, 64\]", query=torch.zeros(2, 4, 32))
    refused("query has 5 heads for 2 of keys", query=torch.zeros(2, 5, 64))
    refused("keys is float32, wanted bfloat16 or float8_e4m3fn or int8", query=query.bfloat16())
    refused("tables is int64, wanted int32", pages=replace(pages, tables=pages.tables.long()))
    refused("values have strides|values", cache=replace(cache, values=cache.values.transpose(1, 2).contiguous()))
    refused("key_scales is not wanted: keys are float32", cache=replace(cache, key_scales=torch.ones(1)))
    whole = made_pages([5, 40], dtype=INT8).cache
    refused("value_scales is missing: keys are int8", query=query.bfloat16(), cache=replace(whole, value_scales=None))
    refused(
        "head_dim is 32, wanted one of 64, 128", query=query[..., :32], cache=made_pages([5, 40], head_dim=32).cache
    )
    refused("block_size is 8, wanted one of 16, 32", cache=made_pages([5, 40], block_size=8).cache)
    with pytest.raises(ValueError, match="scale is 0, wanted more than 0"):
        op.launch(query, pages, scale=0, invariant=True)


@pytest.mark.parity("paged_decode")
def test_the_entry_point_looks_at_places() -> None:
    pages, query = made_pages([5, 40]), torch.randn(2, 4, 64)

    def call(tables: torch.Tensor, contexts: torch.Tensor) -> torch.Tensor:
        return op.paged_decode(query, Pages(pages.cache, tables, contexts), scale=0.125, invariant=True)

    assert torch.equal(call(pages.tables, pages.contexts), op.reference(query, pages, scale=0.125))
    wrong = pages.tables.clone()
    wrong[1, 2] = 99
    with pytest.raises(ValueError, match=r"tables\[1, 2\] is 99, wanted an index from 0 to 6"):
        call(wrong, pages.contexts)
    with pytest.raises(ValueError, match=r"contexts\[0\] is 65, its table has room for 64 tokens"):
        call(pages.tables, torch.tensor([65, 40], dtype=torch.int32))
